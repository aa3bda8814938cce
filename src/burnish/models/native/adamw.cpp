// AdamW (arXiv:1711.05101) of weights that are fp32, or bfloat16 and the 16 bits below them (training/masters.py).

#include "common.h"

namespace burnish {
namespace {

constexpr int64_t PIECE = 1 << 14;

struct Settings {
    float rate, first, second, epsilon, decay, gradient_scale, first_correction, second_correction;
};

inline float moved(float weight, float grad, float& mean, float& square, const Settings& by) {
    grad *= by.gradient_scale;
    mean += (1.0f - by.first) * (grad - mean);
    square = by.second * square + (1.0f - by.second) * grad * grad;
    const float root = std::sqrt(square / by.second_correction) + by.epsilon;
    return weight * (1.0f - by.rate * by.decay) - by.rate / by.first_correction * mean / root;
}

void step_split(int64_t count, const Settings by, bf16* weight, int16_t* below, const bf16* grad, float* mean,
                float* square) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += PIECE) {
        const int64_t stop = std::min(from + PIECE, count);
#pragma omp simd
        for (int64_t i = from; i < stop; ++i) {
            const uint32_t held = (uint32_t(weight[i].bits) << 16) + uint32_t(int32_t(below[i]));
            const uint32_t now = std::bit_cast<uint32_t>(
                moved(std::bit_cast<float>(held), wide(grad[i]), mean[i], square[i], by));
            const int16_t low = int16_t(now & 0xffff);
            below[i] = low;
            weight[i].bits = uint16_t((now - uint32_t(int32_t(low))) >> 16);
        }
    }
}

void step_whole(int64_t count, const Settings by, float* weight, const float* grad, float* mean, float* square) {
#pragma omp parallel for schedule(static)
    for (int64_t from = 0; from < count; from += PIECE) {
        const int64_t stop = std::min(from + PIECE, count);
#pragma omp simd
        for (int64_t i = from; i < stop; ++i)
            weight[i] = moved(weight[i], grad[i], mean[i], square[i], by);
    }
}

}  // namespace
}  // namespace burnish

using namespace burnish;

extern "C" void adamw_bfloat16(const Settings* by, int64_t count, bf16* weight, int16_t* below, const bf16* grad,
                               float* mean, float* square) {
    step_split(count, *by, weight, below, grad, mean, square);
}
extern "C" void adamw_float32(const Settings* by, int64_t count, float* weight, const float* grad, float* mean,
                              float* square) {
    step_whole(count, *by, weight, grad, mean, square);
}
