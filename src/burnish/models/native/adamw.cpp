// AdamW (arXiv:1711.05101) of weights that are fp32, or bfloat16 and the 16 bits below them (training/masters.py).

#include "common.h"

namespace burnish {
namespace {

struct Settings {
    float first, second, epsilon, gradient_scale;
    float kept;        // share of a weight that its decay leaves
    float rate;        // over the first moment's correction
    float root_scale;  // 1 / the second moment's correction, for a product is faster than a division
};

inline float moved(float weight, float grad, float& mean, float& square, const Settings& by) {
    grad *= by.gradient_scale;
    mean += (1.0f - by.first) * (grad - mean);
    square = by.second * square + (1.0f - by.second) * grad * grad;
    return weight * by.kept - by.rate * mean / (std::sqrt(square * by.root_scale) + by.epsilon);
}

// Weights: bfloat16 and the 16 bits below it, or fp32.
struct Split {
    using Grad = bf16;
    bf16* weight;
    int16_t* below;
    float get(int64_t i) const {
        return std::bit_cast<float>((uint32_t(weight[i].bits) << 16) + uint32_t(int32_t(below[i])));
    }
    void set(int64_t i, float value) const {
        const uint32_t now = std::bit_cast<uint32_t>(value);
        const int16_t low = int16_t(now & 0xffff);
        below[i] = low;
        weight[i].bits = uint16_t((now - uint32_t(int32_t(low))) >> 16);
    }
};

struct Whole {
    using Grad = float;
    float* weight;
    float get(int64_t i) const { return weight[i]; }
    void set(int64_t i, float value) const { weight[i] = value; }
};

// What moments are rounded by, up or down at random: numbers of 16 bits, two periods for each moment, of which the
// first weight has that at `shift`.
struct Noise {
    const uint32_t* values = nullptr;
    int64_t period = 1 << 12, shift = 0;
};

// One of the two bfloat16 numbers next to a number: the larger in size if its lower half and the noise overflow.
inline bf16 cut(float value, uint32_t noise) { return {uint16_t((std::bit_cast<uint32_t>(value) + noise) >> 16)}; }

// Moments are fp32 or bfloat16.
template <typename Master, typename Moment>
void step(int64_t count, const Settings& by, const Master& master, const typename Master::Grad* grad, Moment* mean,
          Moment* square, const Noise& noise) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += noise.period) {
        const int64_t stop = std::min(from + noise.period, count);
        const Settings own = by;  // which no store changes, as a compiler knows
        const Master weights = master;
        const uint32_t *first = noise.values + noise.shift - from, *second = first + 2 * noise.period;
#pragma omp simd
        for (int64_t i = from; i < stop; ++i) {
            float mean_now = wide(mean[i]), square_now = wide(square[i]);
            weights.set(i, moved(weights.get(i), wide(grad[i]), mean_now, square_now, own));
            if constexpr (std::is_same_v<Moment, bf16>) {
                mean[i] = cut(mean_now, first[i]);
                square[i] = cut(square_now, second[i]);
            } else {
                mean[i] = mean_now;
                square[i] = square_now;
            }
        }
    }
}

// Moments of one byte: blocks of codes, each with its largest value (training/eight_bit.py).
constexpr int64_t BLOCK = 256;
template <typename Code>
constexpr float MOST = std::is_signed_v<Code> ? 127.0f : 255.0f;

inline float fourth(float x) { return (x * x) * (x * x); }

template <typename Code>
void decode(const Code* codes, float scale, int64_t count, float* values) {
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        const float share = float(codes[i]) * (1.0f / MOST<Code>);
        values[i] = std::copysign(fourth(share) * scale, share);
    }
}

// A code is the one above its value with the chance that keeps the mean. The second moment's are never zero: under a
// first moment that is not, it would make a step of any size.
template <typename Code>
void encode(const float* values, int64_t count, const uint32_t* noise, Code* codes, float& scale) {
    constexpr float most = MOST<Code>;
    float largest = 0.0f;
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(values[i]));
    scale = largest;
    const float inverse = 1.0f / std::max(largest, 1.17549435e-38f);
#pragma omp simd
    for (int64_t i = 0; i < count; ++i) {
        const float share = std::abs(values[i]) * inverse;
        const float below = std::min(std::floor(std::sqrt(std::sqrt(share)) * most), most - 1.0f);
        const float low = fourth(below / most), high = fourth((below + 1.0f) / most);
        const float chosen = below + (float(noise[i]) * (1.0f / 65536) * (high - low) < share - low ? 1.0f : 0.0f);
        codes[i] = Code(std::is_signed_v<Code> ? std::copysign(chosen, values[i]) : std::max(chosen, 1.0f));
    }
}

template <typename Master>
void step_coded(int64_t count, const Settings& by, const Master& master, const typename Master::Grad* grad,
                int8_t* mean, uint8_t* square, float* mean_scale, float* square_scale, const Noise& noise) {
#pragma omp parallel for schedule(static)
    for (int64_t block = 0; block < (count + BLOCK - 1) / BLOCK; ++block) {
        const int64_t from = block * BLOCK, size = std::min(BLOCK, count - from);
        const Settings own = by;
        const Master weights = master;
        float means[BLOCK], squares[BLOCK];
        decode(mean + from, mean_scale[block], size, means);
        decode(square + from, square_scale[block], size, squares);
#pragma omp simd
        for (int64_t i = 0; i < size; ++i)
            weights.set(from + i, moved(weights.get(from + i), wide(grad[from + i]), means[i], squares[i], own));
        const uint32_t* mine = noise.values + from % noise.period;
        encode(means, size, mine, mean + from, mean_scale[block]);
        encode(squares, size, mine + 2 * noise.period, square + from, square_scale[block]);
    }
}

}  // namespace
}  // namespace burnish

using namespace burnish;

// For each kind of weights a kernel for each kind of moments.
#define ADAMW(NAME, MASTER, GRAD, ...)                                                                                \
    extern "C" int adamw_##NAME(const Settings* by, int64_t count, __VA_ARGS__, const GRAD* grad, float* mean,        \
                                float* square) {                                                                      \
        return told([=] { step(count, *by, MASTER, grad, mean, square, Noise{}); });                                  \
    }                                                                                                                 \
    extern "C" int adamw_narrow_##NAME(const Settings* by, int64_t count, __VA_ARGS__, const GRAD* grad, bf16* mean,  \
                                       bf16* square, const uint32_t* noise, int64_t period, int64_t shift) {          \
        return told([=] { step(count, *by, MASTER, grad, mean, square, Noise{noise, period, shift}); });              \
    }                                                                                                                 \
    extern "C" int adamw_coded_##NAME(const Settings* by, int64_t count, __VA_ARGS__, const GRAD* grad, int8_t* mean, \
                                      uint8_t* square, float* mean_scale, float* square_scale, const uint32_t* noise, \
                                      int64_t period) {                                                               \
        return told([=] {                                                                                             \
            step_coded(count, *by, MASTER, grad, mean, square, mean_scale, square_scale, Noise{noise, period});       \
        });                                                                                                           \
    }

ADAMW(bfloat16, (Split{weight, below}), bf16, bf16* weight, int16_t* below)
ADAMW(float32, Whole{weight}, float, float* weight)
