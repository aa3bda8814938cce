// The gradient of a linear layer's weights in bfloat16: a product of two tall matrices, the left one turned over.
//
// oneDNN, which torch calls, has half the speed of its other products there. Both sides are laid out here as the matrix
// units want them, and each thread takes rows of the result.

#include <omp.h>

#include "common.h"

namespace burnish {
namespace {

constexpr int64_t MOST_ROWS = 320;  // of the result in a task
constexpr int64_t COLUMNS = 64;     // of the result in a product
constexpr int64_t TERMS = 512;      // that a product sums up, or the rest of them: a multiple of STEP
constexpr int64_t STEP = 32;

int64_t pieces(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Two rows laced, of which `left` are there; the others are zeros.
void lace_two(const bf16* rows, int64_t stride, int64_t left, int64_t count, bf16* to) {
    if (left > 1)
        lace(rows, rows + stride, count, to);
    else
        for (int64_t c = 0; c < count; ++c) to[2 * c] = left > 0 ? rows[c] : bf16{}, to[2 * c + 1] = bf16{};
}

// The right side (k x n) in panels of COLUMNS, each `terms` long, zeros where there are fewer columns or terms.
void pack(const bf16* from, int64_t k, int64_t terms, int64_t n, bf16* to) {
#pragma omp parallel for schedule(static)
    for (int64_t r = 0; r < terms; r += 2)
        for (int64_t first = 0; first < n; first += COLUMNS) {
            const int64_t count = std::min(COLUMNS, n - first);
            bf16* here = to + first * terms + r * COLUMNS;
            lace_two(from + r * n + first, n, k - r, count, here);
            if (count < COLUMNS) std::fill(here + 2 * count, here + 2 * COLUMNS, bf16{});
        }
}

// Columns first .. first + count - 1 of the left side (k x m) as rows: for every TERMS of k a block of its own.
void turn(const bf16* from, int64_t k, int64_t terms, int64_t m, int64_t first, int64_t count, bf16* laced, bf16* to) {
    for (int64_t r = 0; r < terms; r += STEP) {
        const int64_t chunk = r / TERMS * TERMS;
        for (int64_t i = r + STEP; i < std::min(r + 2 * STEP, k); ++i)  // rows are far from each other
            for (int64_t c = 0; c < count; c += 32) __builtin_prefetch(from + i * m + first + c);
        for (int64_t i = 0; i < STEP; i += 2)
            lace_two(from + (r + i) * m + first, m, k - r - i, count, laced + i * MOST_ROWS);
        transpose(reinterpret_cast<const uint32_t*>(laced), MOST_ROWS, STEP / 2, count,
                  reinterpret_cast<uint32_t*>(to + chunk * count + (r - chunk)), std::min(TERMS, terms - chunk) / 2);
    }
}

struct Room {
    std::vector<bf16> panels, turned, laced;
    std::vector<float> sums;
};

Room& room() {
    static thread_local Room mine;
    return mine;
}

// Rows of the result from the turned left side and all panels.
void rows_of(const bf16* turned, int64_t count, int64_t terms, const bf16* panels, int64_t n, bf16* out) {
    float* sums = scratch(room().sums, MOST_ROWS * COLUMNS);
    for (int64_t panel = 0; panel < pieces(n, COLUMNS); ++panel) {
        for (int64_t from = 0; from < terms; from += TERMS) {
            const int64_t here = std::min(TERMS, terms - from);
            product(count, COLUMNS, here, turned + from * count, here, panels + (panel * terms + from) * COLUMNS,
                    COLUMNS, sums, COLUMNS, from > 0);
        }
        const int64_t first = panel * COLUMNS, width = std::min(COLUMNS, n - first);
        for (int64_t r = 0; r < count; ++r)
            for (int64_t j = 0; j < width; ++j) out[r * n + first + j] = narrow<bf16>(sums[r * COLUMNS + j]);
    }
}

// out (m x n) = left (k x m) turned over, times right (k x n).
void gradient(int64_t m, int64_t k, int64_t n, const bf16* left, const bf16* right, bf16* out) {
    const int64_t terms = pieces(k, STEP) * STEP, share = pieces(m, omp_get_max_threads());
    const int64_t rows = pieces(pieces(share, pieces(share, MOST_ROWS)), 32) * 32;
    bf16* panels = scratch(room().panels, pieces(n, COLUMNS) * COLUMNS * terms);
    pack(right, k, terms, n, panels);
    Tasks tasks;
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (int64_t first = 0; first < m; first += rows)
            tasks.run([&] {
                const int64_t count = std::min(rows, m - first);
                bf16 *turned = scratch(room().turned, rows * terms), *laced = scratch(room().laced, STEP * MOST_ROWS);
                turn(left, k, terms, m, first, count, laced, turned);
                rows_of(turned, count, terms, panels, n, out + first * n);
            });
        at::native::cpublas::brgemm_release(true);
    }
    tasks.finish();
}

}  // namespace
}  // namespace burnish

using namespace burnish;

extern "C" int linear_gradient_bfloat16(int64_t m, int64_t k, int64_t n, const bf16* left, const bf16* right,
                                        bf16* out) {
    return told([=] { gradient(m, k, n, left, right, out); });
}

extern "C" int linear_release() {
#pragma omp parallel
    room() = {};
    return 0;
}
