// Which products of matrices this CPU and torch have fast ones for: each is tried.

#include "common.h"

namespace {

template <typename S>
bool multiplies() {
    constexpr int64_t size = 32;
    std::vector<S> ones(size * size, burnish::narrow<S>(1.0f));
    std::vector<float> found(size * size);
    try {
        burnish::product<S>(size, size, size, ones.data(), size, ones.data(), size, found.data(), size, false);
        at::native::cpublas::brgemm_release(sizeof(S) == 2);
    } catch (...) {
        return false;
    }
    return std::all_of(found.begin(), found.end(), [](float value) { return value == float(size); });
}

}  // namespace

extern "C" bool multiplies_bfloat16() { return multiplies<burnish::bf16>(); }
extern "C" bool multiplies_float32() { return multiplies<float>(); }
