// What stands between the matrix products of a layer: norms, gates, rotations. Rounded where the model's own operations
// round.

#include <omp.h>

#include "common.h"

namespace burnish {
namespace {

constexpr int64_t PIECE = 4096;  // numbers of one task

// y = (w + offset) x / rms(x), each row; `early` rounds x / rms before the weight multiplies it. Keeps 1 / rms.
template <typename S>
void norm_forward(int64_t rows, int64_t width, const S* x, const S* weight, float epsilon, float offset, int64_t early,
                  S* y, float* inverse) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < rows; ++r) {
        const S* from = x + r * width;
        S* to = y + r * width;
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (int64_t d = 0; d < width; ++d) total += wide(from[d]) * wide(from[d]);
        const float scale = 1.0f / std::sqrt(total / float(width) + epsilon);
        inverse[r] = scale;
        if (early)
            for (int64_t d = 0; d < width; ++d)
                to[d] = narrow<S>(wide(weight[d]) * wide(narrow<S>(wide(from[d]) * scale)));
        else
            for (int64_t d = 0; d < width; ++d) to[d] = narrow<S>(wide(from[d]) * scale * (offset + wide(weight[d])));
    }
}

// With u = x / rms and g = dy (w + offset): dx = (g - u mean(g u)) / rms; dw = sum of dy u, if there is room for it.
template <typename S>
void norm_backward(int64_t rows, int64_t width, const S* x, const S* weight, const float* inverse, const S* grad,
                   float offset, S* grad_x, S* grad_weight) {
    const int64_t threads = omp_get_max_threads();
    std::vector<float> sums(grad_weight ? threads * width : 0, 0.0f);
#pragma omp parallel num_threads(threads)
    {
        float* mine = sums.data() + (grad_weight ? omp_get_thread_num() * width : 0);
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; ++r) {
            const S *from = x + r * width, *given = grad + r * width;
            S* to = grad_x + r * width;
            const float scale = inverse[r];
            float total = 0.0f;
#pragma omp simd reduction(+ : total)
            for (int64_t d = 0; d < width; ++d)
                total += wide(given[d]) * (offset + wide(weight[d])) * (wide(from[d]) * scale);
            const float mean = total / float(width);
            if (grad_weight)
                for (int64_t d = 0; d < width; ++d) mine[d] += wide(given[d]) * (wide(from[d]) * scale);
            for (int64_t d = 0; d < width; ++d)
                to[d] = narrow<S>((wide(given[d]) * (offset + wide(weight[d])) - wide(from[d]) * scale * mean) * scale);
        }
    }
    if (!grad_weight) return;
    for (int64_t t = 1; t < threads; ++t)
        for (int64_t d = 0; d < width; ++d) sums[d] += sums[t * width + d];
    for (int64_t d = 0; d < width; ++d) grad_weight[d] = narrow<S>(sums[d]);
}

// Activations: a value, and what it makes of a gradient.

struct Silu {
    static float value(float x) { return x / (1.0f + exponential(-x)); }
    static float slope(float x) {
        const float share = 1.0f / (1.0f + exponential(-x));
        return share * (1.0f + x * (1.0f - share));
    }
};

struct GeluTanh {
    static constexpr float A = 0.7978845608f, B = 0.044715f;
    // (1 - tanh(A (x + B x^3))) / 2
    static float rest(float x) { return 1.0f / (1.0f + exponential(2.0f * A * (x + B * x * x * x))); }
    static float value(float x) { return x * (1.0f - rest(x)); }
    static float slope(float x) {
        const float r = rest(x);
        return (1.0f - r) + 2.0f * x * r * (1.0f - r) * A * (1.0f + 3.0f * B * x * x);
    }
};

// act(gate) * up.
template <typename S, typename Act>
void gated_forward(int64_t count, const S* gate, const S* up, S* y) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += PIECE) {
        const int64_t stop = std::min(from + PIECE, count);
#pragma omp simd
        for (int64_t i = from; i < stop; ++i)
            y[i] = narrow<S>(wide(narrow<S>(Act::value(wide(gate[i])))) * wide(up[i]));
    }
}

// The gradients may be written to where gate and up are.
template <typename S, typename Act>
void gated_backward(int64_t count, const S* gate, const S* up, const S* grad, S* grad_gate, S* grad_up) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += PIECE) {
        const int64_t stop = std::min(from + PIECE, count);
#pragma omp simd
        for (int64_t i = from; i < stop; ++i) {
            const float x = wide(gate[i]), given = wide(grad[i]), value = wide(up[i]);
            grad_gate[i] = narrow<S>(wide(narrow<S>(given * value)) * Act::slope(x));
            grad_up[i] = narrow<S>(given * wide(narrow<S>(Act::value(x))));
        }
    }
}

// x cos + rotated(x) sin for every head, where rotated(x) is the second half negated and then the first; with `back`
// the same with its transpose, which is its derivative. x: (tokens, heads, width) by strides; cos and sin (tokens,
// width); y: as x without gaps, or x itself if it has none.
template <typename S>
void rotate(int64_t tokens, int64_t heads, int64_t width, int64_t token_stride, int64_t head_stride, const S* x,
            const S* cos, const S* sin, int64_t back, S* y) {
    const int64_t half = width / 2;
#pragma omp parallel for schedule(static)
    for (int64_t t = 0; t < tokens; ++t)
        for (int64_t h = 0; h < heads; ++h) {
            const S *from = x + t * token_stride + h * head_stride, *c = cos + t * width, *s = sin + t * width;
            S* to = y + (t * heads + h) * width;
#pragma omp simd
            for (int64_t d = 0; d < half; ++d) {
                const float a = wide(from[d]), b = wide(from[half + d]);
                const float ca = wide(narrow<S>(a * wide(c[d]))), cb = wide(narrow<S>(b * wide(c[half + d])));
                const float sa = back ? b * wide(s[half + d]) : -b * wide(s[d]);
                const float sb = back ? -a * wide(s[d]) : a * wide(s[half + d]);
                to[d] = narrow<S>(ca + wide(narrow<S>(sa)));
                to[half + d] = narrow<S>(cb + wide(narrow<S>(sb)));
            }
        }
}

}  // namespace
}  // namespace burnish

using namespace burnish;

#define GATED(NAME, S, ACT, FUNCTION)                                                                      \
    extern "C" int gated_forward_##ACT##_##NAME(int64_t count, const S* gate, const S* up, S* y) {         \
        return told([=] { gated_forward<S, FUNCTION>(count, gate, up, y); });                              \
    }                                                                                                      \
    extern "C" int gated_backward_##ACT##_##NAME(int64_t count, const S* gate, const S* up, const S* grad, \
                                                 S* grad_gate, S* grad_up) {                               \
        return told([=] { gated_backward<S, FUNCTION>(count, gate, up, grad, grad_gate, grad_up); });      \
    }

#define LAYERS(NAME, S)                                                                                             \
    extern "C" int norm_forward_##NAME(int64_t rows, int64_t width, const S* x, const S* weight, float epsilon,     \
                                       float offset, int64_t early, S* y, float* inverse) {                         \
        return told([=] { norm_forward<S>(rows, width, x, weight, epsilon, offset, early, y, inverse); });          \
    }                                                                                                               \
    extern "C" int norm_backward_##NAME(int64_t rows, int64_t width, const S* x, const S* weight,                   \
                                        const float* inverse, const S* grad, float offset, S* grad_x,               \
                                        S* grad_weight) {                                                           \
        return told([=] { norm_backward<S>(rows, width, x, weight, inverse, grad, offset, grad_x, grad_weight); }); \
    }                                                                                                               \
    extern "C" int rotate_##NAME(int64_t tokens, int64_t heads, int64_t width, int64_t token_stride,                \
                                 int64_t head_stride, const S* x, const S* cos, const S* sin, int64_t back, S* y) { \
        return told([=] { rotate<S>(tokens, heads, width, token_stride, head_stride, x, cos, sin, back, y); });     \
    }                                                                                                               \
    GATED(NAME, S, silu, Silu)                                                                                      \
    GATED(NAME, S, gelu_tanh, GeluTanh)

LAYERS(bfloat16, bf16)
LAYERS(float32, float)
