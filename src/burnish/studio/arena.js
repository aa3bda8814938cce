() => {
  // Keys work anywhere but in the box, where they write. Esc leaves the box, / enters it.
  const keys = {
    1: "vote-left", 2: "vote-right", 3: "vote-tie", 4: "vote-bad", n: "next"
  };
  const box = () => document.querySelector("#message textarea");

  for (const [key, id] of Object.entries(keys)) {
    document.getElementById(id)?.setAttribute("aria-keyshortcuts", key.toUpperCase());
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || event.isComposing) return;
    if (event.target.closest("input, textarea, select, [contenteditable=true]")) {
      if (event.key === "Escape") event.target.blur();
      // What was sent is to be read and voted on, so the box gives the keys back.
      if (event.key === "Enter" && !event.shiftKey && event.target.value.trim()) setTimeout(() => event.target.blur(), 0);
      return;
    }
    if (event.key === "/" && box() && !box().disabled) {
      event.preventDefault();
      box().focus();
      return;
    }
    const button = document.getElementById(keys[event.key.toLowerCase()]);
    if (button && !button.disabled) {
      event.preventDefault();
      button.click();
    }
  });
}
