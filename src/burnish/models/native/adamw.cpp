// AdamW (arXiv:1711.05101) of weights that are fp32, or bfloat16 and the 16 bits below them (training/masters.py).

#include "common.h"

namespace burnish {
namespace {

constexpr int64_t PIECE = 1 << 14;

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

// One of the two bfloat16 numbers next to a number: the larger in size if its lower half and the noise overflow.
inline bf16 cut(float value, uint32_t noise) { return {uint16_t((std::bit_cast<uint32_t>(value) + noise) >> 16)}; }

// What bfloat16 moments are rounded by: two periods for each of the two, and where in a period the first weight is.
struct Noise {
    const uint32_t* values;
    int64_t period, shift;
};

template <typename Moment>
void step_split(int64_t count, const Settings by, bf16* weight, int16_t* below, const bf16* grad, Moment* mean,
                Moment* square, const Noise noise) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += noise.period) {
        const int64_t stop = std::min(from + noise.period, count);
        const Settings own = by;  // which no store changes, as a compiler knows
        const uint32_t *first = noise.values + noise.shift - from, *second = first + 2 * noise.period;
#pragma omp simd
        for (int64_t i = from; i < stop; ++i) {
            const uint32_t held = (uint32_t(weight[i].bits) << 16) + uint32_t(int32_t(below[i]));
            float mean_now = wide(mean[i]), square_now = wide(square[i]);
            const uint32_t now =
                std::bit_cast<uint32_t>(moved(std::bit_cast<float>(held), wide(grad[i]), mean_now, square_now, own));
            const int16_t low = int16_t(now & 0xffff);
            below[i] = low;
            weight[i].bits = uint16_t((now - uint32_t(int32_t(low))) >> 16);
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

void step_whole(int64_t count, const Settings by, float* weight, const float* grad, float* mean, float* square) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += PIECE) {
        const int64_t stop = std::min(from + PIECE, count);
#pragma omp simd
        for (int64_t i = from; i < stop; ++i) weight[i] = moved(weight[i], grad[i], mean[i], square[i], by);
    }
}

}  // namespace
}  // namespace burnish

using namespace burnish;

extern "C" int adamw_bfloat16(const Settings* by, int64_t count, bf16* weight, int16_t* below, const bf16* grad,
                              float* mean, float* square) {
    return told([=] { step_split(count, *by, weight, below, grad, mean, square, {nullptr, PIECE, 0}); });
}
extern "C" int adamw_narrow_bfloat16(const Settings* by, int64_t count, bf16* weight, int16_t* below, const bf16* grad,
                                     bf16* mean, bf16* square, const uint32_t* noise, int64_t period, int64_t shift) {
    return told([=] { step_split(count, *by, weight, below, grad, mean, square, {noise, period, shift}); });
}
extern "C" int adamw_float32(const Settings* by, int64_t count, float* weight, const float* grad, float* mean,
                             float* square) {
    return told([=] { step_whole(count, *by, weight, grad, mean, square); });
}
