"""Pages that are served on this machine. They need the extra `studio`; nothing else imports Gradio."""
