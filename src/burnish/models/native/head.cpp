// The softmax over a vocabulary of which only a part's logits are there at a time.

#include <omp.h>

#include "common.h"

namespace burnish {
namespace {

// What the matrix gave as a logit, and how much the logit changes with it.
struct Bend {
    float scale, softcap;  // softcap 0: none
    float logit(float raw) const { return softcap ? softcap * std::tanh(raw * scale / softcap) : raw * scale; }
    float slope(float logit) const {
        const float bent = softcap ? logit / softcap : 0.0f;
        return scale * (1.0f - bent * bent);
    }
};

template <typename S>
void logits_of(const S* raw, int64_t width, const Bend& bend, float* logits) {
    if (bend.softcap)
        for (int64_t v = 0; v < width; ++v) logits[v] = bend.logit(wide(raw[v]));
    else
        for (int64_t v = 0; v < width; ++v) logits[v] = wide(raw[v]) * bend.scale;
}

// Takes a part (rows x width) into every row's largest logit, sum of exp(logit - largest) and the token's logit, which
// are there for the parts before. Of the tokens, those from 0 to width - 1 are in the part. If the states learn, `raw`
// becomes exp(logit - largest) times the slope; `shrink` is by how much the earlier sums get smaller.
template <typename S>
void take_in(int64_t rows, int64_t width, S* raw, const int64_t* tokens, float* most, float* total, float* chosen,
             float* shrink, float scale, float softcap, int64_t learns) {
    const Bend bend{scale, softcap};
    const int64_t threads = omp_get_max_threads();
    std::vector<float> room(threads * width);
#pragma omp parallel num_threads(threads)
    {
        float* logits = room.data() + omp_get_thread_num() * width;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; ++r) {
            S* row = raw + r * width;
            logits_of(row, width, bend, logits);
            const float before = most[r], now = std::max(before, largest(logits, width));
            if (tokens[r] >= 0 && tokens[r] < width) chosen[r] = logits[tokens[r]];
            shrink[r] = std::exp(before - now);
            float sum = 0.0f;
            if (!learns) {
#pragma omp simd reduction(+ : sum)
                for (int64_t v = 0; v < width; ++v) sum += exponential(logits[v] - now);
            } else {
#pragma omp simd reduction(+ : sum)
                for (int64_t v = 0; v < width; ++v) {
                    const float part = exponential(logits[v] - now);
                    sum += part;
                    row[v] = narrow<S>(part * bend.slope(logits[v]));
                }
            }
            total[r] = total[r] * shrink[r] + sum;
            most[r] = now;
        }
    }
}

// Turns a part (rows x width) into the gradient of what the matrix gave: given (1[token] - softmax) slope.
template <typename S>
void push(int64_t rows, int64_t width, S* raw, const int64_t* tokens, const float* normalizer, const float* given,
          float scale, float softcap) {
    const Bend bend{scale, softcap};
    const int64_t threads = omp_get_max_threads();
    std::vector<float> room(threads * width);
#pragma omp parallel num_threads(threads)
    {
        float* logits = room.data() + omp_get_thread_num() * width;
#pragma omp for schedule(static)
        for (int64_t r = 0; r < rows; ++r) {
            S* row = raw + r * width;
            logits_of(row, width, bend, logits);
            for (int64_t v = 0; v < width; ++v)
                row[v] = narrow<S>(-given[r] * exponential(logits[v] - normalizer[r]) * bend.slope(logits[v]));
            if (tokens[r] < 0 || tokens[r] >= width) continue;
            const float own = logits[tokens[r]];
            row[tokens[r]] = narrow<S>(given[r] * (1.0f - std::exp(own - normalizer[r])) * bend.slope(own));
        }
    }
}

}  // namespace
}  // namespace burnish

using namespace burnish;

#define HEAD(NAME, S)                                                                                            \
    extern "C" int head_take_in_##NAME(int64_t rows, int64_t width, S* raw, const int64_t* tokens, float* most,  \
                                       float* total, float* chosen, float* shrink, float scale, float softcap,   \
                                       int64_t learns) {                                                         \
        return told(                                                                                             \
            [=] { take_in<S>(rows, width, raw, tokens, most, total, chosen, shrink, scale, softcap, learns); }); \
    }                                                                                                            \
    extern "C" int head_push_##NAME(int64_t rows, int64_t width, S* raw, const int64_t* tokens,                  \
                                    const float* normalizer, const float* given, float scale, float softcap) {   \
        return told([=] { push<S>(rows, width, raw, tokens, normalizer, given, scale, softcap); });              \
    }

HEAD(bfloat16, bf16)
HEAD(float32, float)
