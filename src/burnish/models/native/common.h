// What all kernels share: number formats, products of small matrices, the exponential.
//
// Plain loops that a compiler makes into vector instructions. No header of torch is read: a build takes seconds.

#pragma once

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <vector>

namespace c10 {
struct BFloat16;
}  // namespace c10

namespace at::native::cpublas {
// torch's products of matrices that fit a core's cache, by the matrix units where there are any: C (M x N, fp32) = or
// += A (M x K) B (K x N). Of bfloat16, B has every two rows that follow each other interleaved.
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add,
            const c10::BFloat16* A, const c10::BFloat16* B, float* C, bool interleaved);
void brgemm(int64_t M, int64_t N, int64_t K, int64_t ld_a, int64_t ld_b, int64_t ld_c, const bool add, const float* A,
            const float* B, float* C, bool interleaved);
void brgemm_release(bool interleaved);
}  // namespace at::native::cpublas

namespace burnish {

struct bf16 {
    uint16_t bits;
};

inline float wide(float value) { return value; }
inline float wide(bf16 value) { return std::bit_cast<float>(uint32_t(value.bits) << 16); }

template <typename S>
S narrow(float value);
template <>
inline float narrow<float>(float value) {
    return value;
}
template <typename S>
S narrow(bf16 value) {
    return value;
}
template <>
inline bf16 narrow<bf16>(float value) {  // to the nearest, of two equally near the even one
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

// How many rows of a product's right side lie interleaved.
template <typename S>
constexpr int64_t LACED = sizeof(S) == 2 ? 2 : 1;

template <typename S>
void product(int64_t m, int64_t n, int64_t k, const S* a, int64_t ld_a, const S* b, int64_t ld_b, float* c,
             int64_t ld_c, bool add) {
    using Theirs = std::conditional_t<sizeof(S) == 2, c10::BFloat16, float>;
    at::native::cpublas::brgemm(m, n, k, ld_a, ld_b, ld_c, add, reinterpret_cast<const Theirs*>(a),
                                reinterpret_cast<const Theirs*>(b), c, sizeof(S) == 2);
}

// Moves that are made of numbers of four bytes: an fp32, or two bfloat16 that lie interleaved.

using Eight = uint32_t __attribute__((vector_size(32)));

// The transpose of 8 x 8 numbers.
inline void transpose_eight(const uint32_t* from, int64_t from_stride, uint32_t* to, int64_t to_stride) {
    Eight a[8], b[8];
    for (int i = 0; i < 8; ++i) std::memcpy(&a[i], from + i * from_stride, sizeof(Eight));
    for (int i = 0; i < 8; i += 2) {
        b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 2, 10, 4, 12, 6, 14);
        b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 1, 9, 3, 11, 5, 13, 7, 15);
    }
    for (int i = 0; i < 8; i += 4)
        for (int k = 0; k < 2; ++k) {
            a[i + k] = __builtin_shufflevector(b[i + k], b[i + k + 2], 0, 1, 8, 9, 4, 5, 12, 13);
            a[i + k + 2] = __builtin_shufflevector(b[i + k], b[i + k + 2], 2, 3, 10, 11, 6, 7, 14, 15);
        }
    for (int k = 0; k < 4; ++k) {
        b[k] = __builtin_shufflevector(a[k], a[k + 4], 0, 1, 2, 3, 8, 9, 10, 11);
        b[k + 4] = __builtin_shufflevector(a[k], a[k + 4], 4, 5, 6, 7, 12, 13, 14, 15);
    }
    for (int i = 0; i < 8; ++i) std::memcpy(to + i * to_stride, &b[i], sizeof(Eight));
}

// The transpose (columns x rows) of rows x columns.
inline void transpose(const uint32_t* from, int64_t from_stride, int64_t rows, int64_t columns, uint32_t* to,
                      int64_t to_stride) {
    const int64_t full_rows = rows / 8 * 8, full_columns = columns / 8 * 8;
    for (int64_t i = 0; i < full_rows; i += 8)
        for (int64_t j = 0; j < full_columns; j += 8)
            transpose_eight(from + i * from_stride + j, from_stride, to + j * to_stride + i, to_stride);
    for (int64_t i = 0; i < rows; ++i)
        for (int64_t j = i < full_rows ? full_columns : 0; j < columns; ++j)
            to[j * to_stride + i] = from[i * from_stride + j];
}

// Two numbers as one of four bytes.
inline uint32_t laced(float first, float second) {
    return uint32_t(narrow<bf16>(first).bits) | uint32_t(narrow<bf16>(second).bits) << 16;
}

// Two rows, or one of fp32, as a product's right side has them.
template <typename From, typename S>
void lace(const From* first, const From* second, int64_t count, S* to) {
    if constexpr (LACED<S> == 1) {
        for (int64_t i = 0; i < count; ++i) to[i] = wide(first[i]);
    } else {
        auto* both = reinterpret_cast<uint32_t*>(to);
        for (int64_t i = 0; i < count; ++i)
            both[i] = uint32_t(narrow<S>(first[i]).bits) | uint32_t(narrow<S>(second[i]).bits) << 16;
    }
}

// The largest of some numbers: several at a time, which a compiler does not dare by itself.
inline float largest(const float* values, int64_t count) {
    constexpr int64_t lanes = 32;
    float most[lanes];
    std::fill(most, most + lanes, -INFINITY);
    for (int64_t i = 0; i + lanes <= count; i += lanes)
        for (int64_t l = 0; l < lanes; ++l) most[l] = values[i + l] > most[l] ? values[i + l] : most[l];
    for (int64_t i = count / lanes * lanes; i < count; ++i) most[0] = std::max(most[0], values[i]);
    return *std::max_element(most, most + lanes);
}

// Memory for some numbers that begins a cache line; `kept` has it from one call to the next.
template <typename S>
S* scratch(std::vector<S>& kept, int64_t size) {
    if (int64_t(kept.size()) < size + 32) kept.resize(size + 32);
    const auto address = reinterpret_cast<uintptr_t>(kept.data());
    return kept.data() + ((address + 63) / 64 * 64 - address) / sizeof(S);
}

// Memory may run out in any thread, or a product of torch fail, but no exception may leave one, nor a function that was
// called from Python.
class Tasks {
public:
    template <typename Work>
    void run(const Work& work) {
        try {
            work();
        } catch (const std::bad_alloc&) {
            trouble = SHORT_OF_MEMORY;
        } catch (...) {
            trouble = OTHER;
        }
    }
    // After the threads have met: what they gave is worth nothing if one of them failed.
    void finish() const {
        if (trouble == SHORT_OF_MEMORY) throw std::bad_alloc();
        if (trouble) throw trouble.load();
    }
    int found() const { return trouble; }

private:
    enum { NONE, SHORT_OF_MEMORY, OTHER };
    std::atomic<int> trouble = NONE;
};

// What a kernel says to Python: 0, 1 when memory ran out, 2 when something else failed.
template <typename Work>
int told(const Work& work) {
    Tasks all;
    all.run(work);
    return all.found();
}

// e to the power of x, for x below 4e6: Cephes' polynomial, off by 2 units in the last place at most; zero below -87.7
// and infinite above 88.7. The bounds are those of the whole exponent: near bounds of x make a compiler branch. Below
// -1e6, where the rest would be no number, x is of no matter.
inline float exponential(float x) {
    x = std::max(x, -1e6f);
    const float whole = (x * 1.44269504f + 12582912.0f) - 12582912.0f;  // rounds to an integer
    const int32_t power = std::clamp(int32_t(whole), -127, 128);
    const float rest = (x - whole * 0.693359375f) + whole * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * rest + 1.3981999507e-3f;
    p = p * rest + 8.3334519073e-3f;
    p = p * rest + 4.1665795894e-2f;
    p = p * rest + 1.6666665459e-1f;
    p = p * rest + 5.0000001201e-1f;
    p = p * rest * rest + rest + 1.0f;
    return p * std::bit_cast<float>((power + 127) << 23);
}

}  // namespace burnish
