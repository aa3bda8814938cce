// Attention over token trees, forward and backward, in blocks of queries and tiles of keys.
//
// Scores are made transposed, keys x queries: what belongs to a query (the largest score, the sum, the gradient's part
// that all keys share) then lies along the vectors, and the weights come out as the products want them, so that nothing
// is transposed between the products. As in FlashAttention-2 (arXiv:2307.08691) of each query the log of its sum is
// kept, and the weights are made again from it in the backward pass.

#include "common.h"

namespace burnish {
namespace {

constexpr int64_t QUERIES = 128;  // most in a block
constexpr int64_t KEYS = 64;      // most in a tile
constexpr int64_t SOME = 16;      // a tile has room for a multiple of these
constexpr int64_t PANEL = 8;      // tiles whose scores are held at once: with 128 queries 256 KiB
constexpr int64_t WIDEST = 512;   // most numbers of a head (attention.py)
constexpr float LOWEST = -1e30f;

struct Shape {
    int64_t tokens, heads, kv_heads, width, value_width, segments;
    float scale;
    int64_t window;
    float softcap;
};

// A tensor (heads, tokens, width) of which the last dimension lies together.
template <typename S>
struct View {
    S* data;
    int64_t head, token;  // strides
    S* at(int64_t h, int64_t t) const { return data + h * head + t * token; }
};

struct Tile {
    int64_t start, count, depth;  // first place, keys, position of the first
    int64_t room, offset;         // rows in memory of tiles: those of the keys and zeros, behind those of tiles before
};

struct Block {
    int64_t start, count, depth, segment, root;
};

// Who attends to what: tiles of every segment, blocks of queries.
struct Plan {
    std::vector<Tile> tiles;
    std::vector<Block> blocks;
    std::vector<std::vector<int64_t>> paths;  // of each segment the tiles of its ancestors and its own
    std::vector<std::vector<int64_t>> roots;  // blocks of each tree
    int64_t rows = 0;                         // of all tiles

    Plan(const int64_t* table, int64_t segments) {
        std::vector<int64_t> root_of(segments);
        paths.resize(segments);
        for (int64_t s = 0; s < segments; ++s) {
            const int64_t start = table[4 * s], stop = table[4 * s + 1], depth = table[4 * s + 2];
            const int64_t parent = table[4 * s + 3];
            if (parent >= 0) {
                paths[s] = paths[parent];
                root_of[s] = root_of[parent];
            } else {
                root_of[s] = int64_t(roots.size());
                roots.emplace_back();
            }
            for (int64_t at = start; at < stop; at += KEYS) {
                const int64_t count = std::min(KEYS, stop - at), room = (count + SOME - 1) / SOME * SOME;
                paths[s].push_back(int64_t(tiles.size()));
                tiles.push_back({at, count, depth + at - start, room, rows});
                rows += room;
            }
            for (int64_t at = start; at < stop; at += QUERIES) {
                roots[root_of[s]].push_back(int64_t(blocks.size()));
                blocks.push_back({at, std::min(QUERIES, stop - at), depth + at - start, s, root_of[s]});
            }
        }
    }

    // The tiles that some query of a block sees.
    std::vector<int64_t> seen(const Block& block, int64_t window) const {
        std::vector<int64_t> found;
        for (const int64_t t : paths[block.segment]) {
            const bool behind = window && tiles[t].depth + tiles[t].count - 1 <= block.depth - window;
            if (!behind && tiles[t].depth < block.depth + block.count) found.push_back(t);
        }
        return found;
    }
};

// Columns low .. high - 1 of a block are the queries that see key `row` of a tile.
struct Columns {
    int64_t low, high;
    Columns(const Tile& tile, int64_t row, const Block& block, int64_t window) {
        const int64_t ahead = tile.depth + row - block.depth;
        low = std::clamp<int64_t>(ahead, 0, block.count);
        high = row >= tile.count ? low : block.count;
        if (window) high = std::clamp<int64_t>(ahead + window, low, high);
    }
};

int64_t padded(int64_t queries) { return (queries + 31) / 32 * 32; }

// Rows (count x width) to the right side of a product, in which they are the columns (width x columns).
template <typename S>
void lace_columns(const S* rows, int64_t stride, int64_t count, int64_t width, int64_t columns, S* to) {
    constexpr int64_t L = LACED<S>;
    auto* lines = reinterpret_cast<uint32_t*>(to);
    transpose(reinterpret_cast<const uint32_t*>(rows), stride / L, count, width / L, lines, columns);
    for (int64_t d = 0; d < width / L; ++d) std::fill(lines + d * columns + count, lines + (d + 1) * columns, 0);
}

// Rows (count x width) to the right side of a product, in which they are the rows (all x width); the rest is zero.
template <typename S>
void lace_rows(const S* rows, int64_t stride, int64_t count, int64_t width, int64_t all, S* to) {
    constexpr int64_t L = LACED<S>;
    for (int64_t j = 0; j < count; j += L) {
        const S* row = rows + j * stride;
        lace(row, row + (j + L <= count ? (L - 1) * stride : 0), width, to + j * width);
    }
    const int64_t done = (count + L - 1) / L * L;
    std::memset(static_cast<void*>(to + done * width), 0, (all - done) * width * sizeof(S));
    if (count % L)  // the last row has been laced with itself
        for (int64_t d = 0; d < width; ++d) to[(count - 1) * width + L * d + 1] = S{};
}

// What one thread works with.
template <typename S>
struct Room {
    std::vector<S> laced, pulled, laced_rows, pulled_rows, weights, slopes, laced_slopes;
    std::vector<float> scores, changes, result, vectors;
    std::vector<S> keys[2], values[2];  // of all threads, as the following two
    std::vector<float> grad_keys, grad_values;
};

template <typename S>
Room<S>& room() {
    static thread_local Room<S> mine;
    return mine;
}

// Every tile of keys or values in a place of its own, as rows and as columns.
template <typename S>
struct Tiled {
    const Plan& plan;
    int64_t width;
    S *row_data, *column_data;

    // `kept` has the memory from one call to the next.
    Tiled(std::vector<S> (&kept)[2], View<const S> from, const Plan& plan, int64_t heads, int64_t width,
          bool with_columns)
        : plan(plan), width(width) {
        row_data = scratch(kept[0], heads * plan.rows * width);
        column_data = with_columns ? scratch(kept[1], heads * plan.rows * width) : nullptr;
        const int64_t tiles = int64_t(plan.tiles.size());
        Tasks tasks;
#pragma omp parallel for schedule(static)
        for (int64_t task = 0; task < heads * tiles; ++task) tasks.run([&] { take(from, task / tiles, task % tiles); });
        tasks.finish();
    }
    void take(View<const S> from, int64_t head, int64_t number) const {
        const Tile& tile = plan.tiles[number];
        S* to = row_data + place(head, number);
        for (int64_t r = 0; r < tile.count; ++r)
            std::memcpy(static_cast<void*>(to + r * width), from.at(head, tile.start + r), width * sizeof(S));
        std::memset(static_cast<void*>(to + tile.count * width), 0, (tile.room - tile.count) * width * sizeof(S));
        if (!column_data) return;
        S* laced = scratch(room<S>().laced, KEYS * width);  // two rows of bfloat16 are one of four bytes
        lace_rows(to, width, tile.room, width, tile.room, laced);
        transpose(reinterpret_cast<const uint32_t*>(laced), width, tile.room / LACED<S>, width,
                  reinterpret_cast<uint32_t*>(column_data + place(head, number)), tile.room / LACED<S>);
    }
    int64_t place(int64_t head, int64_t tile) const { return (head * plan.rows + plan.tiles[tile].offset) * width; }
    const S* row(int64_t head, int64_t tile) const { return row_data + place(head, tile); }
    const S* column(int64_t head, int64_t tile) const { return column_data + place(head, tile); }
};

// What the products gave, as scores over the scale: capped, if there is a cap.
inline void cap(float* row, int64_t count, const Shape& shape) {
    if (shape.softcap)
        for (int64_t j = 0; j < count; ++j)
            row[j] = shape.softcap / shape.scale * std::tanh(row[j] * shape.scale / shape.softcap);
}

// Makes the weights of the queries that do not see a key nothing: their scores are far below `level` (over the scale).
inline void hide(const Columns& own, int64_t m, const Shape& shape, const float* level, float* row) {
    const float far = 1000.0f / shape.scale;
    for (int64_t j = 0; j < own.low; ++j) row[j] = level[j] - far;
    for (int64_t j = own.high; j < m; ++j) row[j] = level[j] - far;
}

// Multiplies every query's column of a result (width x m) by a number of its own.
inline void stretch(float* result, int64_t width, int64_t m, const float* by) {
    for (int64_t d = 0; d < width; ++d) {
        float* line = result + d * m;
#pragma omp simd
        for (int64_t j = 0; j < m; ++j) line[j] *= by[j];
    }
}

// What a block's queries became (width x m) to their rows; `free` has room for as much.
template <typename S>
void put(const float* result, int64_t m, const Block& block, int64_t head, int64_t width, View<S> to, float* free) {
    transpose(reinterpret_cast<const uint32_t*>(result), m, width, block.count, reinterpret_cast<uint32_t*>(free),
              width);
    for (int64_t j = 0; j < block.count; ++j) {
        S* line = to.at(head, block.start + j);
        for (int64_t d = 0; d < width; ++d) line[d] = narrow<S>(free[j * width + d]);
    }
}

// Scores of two keys that follow each other become weights, not yet divided by their sum, as a product reads them.
template <typename S>
void weigh(int64_t m, float scale, const float* most, const float* first, const float* second, float* sum, S* to) {
    auto* pairs = reinterpret_cast<uint32_t*>(to);
#pragma omp simd
    for (int64_t j = 0; j < m; ++j) {
        const float one = exponential((first[j] - most[j]) * scale), two = exponential((second[j] - most[j]) * scale);
        sum[j] += one + two;
        if constexpr (LACED<S> == 2)
            pairs[j] = laced(one, two);
        else
            to[j] = one, to[m + j] = two;
    }
}

// The output of one block of one head.
template <typename S>
void attend(const Plan& plan, const Block& block, int64_t head, const Shape& shape, View<const S> query,
            const Tiled<S>& keys, const Tiled<S>& values, View<S> output, float* log_sums) {
    Room<S>& mine = room<S>();
    const int64_t m = padded(block.count), group = head / (shape.heads / shape.kv_heads), area = KEYS * m;
    S* laced = scratch(mine.laced, shape.width * m);
    S* weights = scratch(mine.weights, PANEL * area);
    float* scores = scratch(mine.scores, PANEL * area);
    float* result = scratch(mine.result, shape.value_width * m);
    float *most = scratch(mine.vectors, 3 * m), *sum = most + m, *shrink = sum + m;
    std::fill(most, most + m, LOWEST);
    std::fill(sum, sum + m, 0.0f);
    lace_columns(query.at(head, block.start), query.token, block.count, shape.width, m, laced);
    const std::vector<int64_t> seen = plan.seen(block, shape.window);
    for (int64_t from = 0; from < int64_t(seen.size()); from += PANEL) {
        const int64_t tiles = std::min<int64_t>(PANEL, int64_t(seen.size()) - from);
        const int64_t* numbers = seen.data() + from;
        std::copy(most, most + m, shrink);
        for (int64_t t = 0; t < tiles; ++t) {
            const Tile& tile = plan.tiles[numbers[t]];
            product(tile.room, m, shape.width, keys.row(group, numbers[t]), shape.width, laced, m, scores + t * area, m,
                    false);
            for (int64_t r = 0; r < tile.count; ++r) {
                float* row = scores + t * area + r * m;
                const Columns own(tile, r, block, shape.window);
                cap(row, m, shape);
                for (int64_t j = own.low; j < own.high; ++j) most[j] = std::max(most[j], row[j]);
            }
        }
        for (int64_t j = 0; j < m; ++j) {  // of a query that has seen no key yet there is nothing to shrink
            shrink[j] = shrink[j] == LOWEST ? 0.0f : exponential((shrink[j] - most[j]) * shape.scale);
            sum[j] *= shrink[j];
        }
        if (from) stretch(result, shape.value_width, m, shrink);
        for (int64_t j = 0; j < m; ++j) shrink[j] = most[j] == LOWEST ? 0.0f : most[j];
        for (int64_t t = 0; t < tiles; ++t) {
            const Tile& tile = plan.tiles[numbers[t]];
            for (int64_t r = 0; r < tile.room; r += 2) {
                float* row = scores + t * area + r * m;
                for (int64_t i = 0; i < 2; ++i)
                    hide(Columns(tile, r + i, block, shape.window), m, shape, shrink, row + i * m);
                weigh(m, shape.scale, shrink, row, row + m, sum, weights + t * area + r * m);
            }
            product(shape.value_width, m, tile.room, values.column(group, numbers[t]), tile.room, weights + t * area, m,
                    result, m, from || t);
        }
    }
    for (int64_t j = 0; j < block.count; ++j) {
        log_sums[head * shape.tokens + block.start + j] = most[j] * shape.scale + std::log(sum[j]);
        sum[j] = 1.0f / sum[j];
    }
    stretch(result, shape.value_width, m, sum);
    put(result, m, block, head, shape.value_width, output, scores);
}

// What the gradients of one block need beside the tensors themselves.
template <typename S>
struct Given {
    View<const S> query, output, grad;
    const Tiled<S>&keys, &values;
    const float* log_sums;
    View<S> grad_query;
    float *grad_keys, *grad_values;  // (heads of queries, rows of tiles, width)
};

// Scores of two keys that follow each other become weights, and the gradients of the weights those of the scores; these
// in both ways in which products read them.
template <typename S>
void slope(int64_t m, const Shape& shape, const float* level, const float* shared, const float* scores,
           const float* changes, S* weights, S* slopes, S* both) {
    auto* pairs = reinterpret_cast<uint32_t*>(both);
    const float scale = shape.scale, bend = shape.softcap ? scale / shape.softcap : 0.0f;
    for (int64_t i = 0; i < 2; ++i) {
        const float *row = scores + i * m, *change = changes + i * m;
        S *weight_row = weights + i * m, *slope_row = slopes + i * m;
#pragma omp simd
        for (int64_t j = 0; j < m; ++j) {
            const float bent = row[j] * bend, weight = exponential((row[j] - level[j]) * scale);
            weight_row[j] = narrow<S>(weight);
            slope_row[j] = narrow<S>(weight * (change[j] - shared[j]) * (1.0f - bent * bent) * scale);
        }
    }
#pragma omp simd
    for (int64_t j = 0; j < m; ++j)
        if constexpr (LACED<S> == 2)
            pairs[j] = uint32_t(slopes[j].bits) | uint32_t(slopes[m + j].bits) << 16;
        else
            both[j] = slopes[j], both[m + j] = slopes[m + j];
}

// The part of the gradients that one block of one head gives.
template <typename S>
void push(const Plan& plan, const Block& block, int64_t head, const Shape& shape, const Given<S>& given) {
    Room<S>& mine = room<S>();
    const int64_t m = padded(block.count), group = head / (shape.heads / shape.kv_heads);
    const int64_t width = shape.width, value_width = shape.value_width, area = KEYS * m;
    S* laced = scratch(mine.laced, width * m);
    S* laced_rows = scratch(mine.laced_rows, width * m);
    S* pulled = scratch(mine.pulled, value_width * m);
    S* pulled_rows = scratch(mine.pulled_rows, value_width * m);
    S* weights = scratch(mine.weights, PANEL * area);
    S* slopes = scratch(mine.slopes, PANEL * area);
    S* laced_slopes = scratch(mine.laced_slopes, PANEL * area);
    float* scores = scratch(mine.scores, PANEL * area);
    float* changes = scratch(mine.changes, PANEL * area);
    float* result = scratch(mine.result, width * m);
    float *level = scratch(mine.vectors, 2 * m), *shared = level + m;  // level: log of the sum, over the scale
    std::fill(level, level + 2 * m, 0.0f);
    lace_columns(given.query.at(head, block.start), given.query.token, block.count, width, m, laced);
    lace_columns(given.grad.at(head, block.start), given.grad.token, block.count, value_width, m, pulled);
    lace_rows(given.query.at(head, block.start), given.query.token, block.count, width, m, laced_rows);
    lace_rows(given.grad.at(head, block.start), given.grad.token, block.count, value_width, m, pulled_rows);
    for (int64_t j = 0; j < block.count; ++j) {
        const S *out = given.output.at(head, block.start + j), *grad = given.grad.at(head, block.start + j);
        float total = 0.0f;
#pragma omp simd reduction(+ : total)
        for (int64_t d = 0; d < value_width; ++d) total += wide(out[d]) * wide(grad[d]);
        shared[j] = total;
        level[j] = given.log_sums[head * shape.tokens + block.start + j] / shape.scale;
    }
    const std::vector<int64_t> seen = plan.seen(block, shape.window);
    for (int64_t from = 0; from < int64_t(seen.size()); from += PANEL) {
        const int64_t tiles = std::min<int64_t>(PANEL, int64_t(seen.size()) - from);
        const int64_t* numbers = seen.data() + from;
        const auto tile = [&](int64_t t) -> const Tile& { return plan.tiles[numbers[t]]; };
        for (int64_t t = 0; t < tiles; ++t)
            product(tile(t).room, m, width, given.keys.row(group, numbers[t]), width, laced, m, scores + t * area, m,
                    false);
        for (int64_t t = 0; t < tiles; ++t)
            product(tile(t).room, m, value_width, given.values.row(group, numbers[t]), value_width, pulled, m,
                    changes + t * area, m, false);
        for (int64_t t = 0; t < tiles; ++t)
            for (int64_t r = 0; r < tile(t).room; r += 2) {
                const int64_t at = t * area + r * m;
                for (int64_t i = 0; i < 2; ++i) {
                    cap(scores + at + i * m, m, shape);
                    hide(Columns(tile(t), r + i, block, shape.window), m, shape, level, scores + at + i * m);
                }
                slope(m, shape, level, shared, scores + at, changes + at, weights + at, slopes + at, laced_slopes + at);
            }
        for (int64_t t = 0; t < tiles; ++t)
            product(tile(t).room, value_width, m, weights + t * area, m, pulled_rows, value_width,
                    given.grad_values + given.values.place(head, numbers[t]), value_width, true);
        for (int64_t t = 0; t < tiles; ++t)
            product(tile(t).room, width, m, slopes + t * area, m, laced_rows, width,
                    given.grad_keys + given.keys.place(head, numbers[t]), width, true);
        for (int64_t t = 0; t < tiles; ++t)
            product(width, m, tile(t).room, given.keys.column(group, numbers[t]), tile(t).room, laced_slopes + t * area,
                    m, result, m, from || t);
    }
    put(result, m, block, head, width, given.grad_query, scores);
}

// The gradients of keys or values: the sums over the heads of queries that share them, at the places of the tiles.
template <typename S>
void gather(const Plan& plan, const float* parts, int64_t heads, int64_t kv_heads, int64_t width, View<S> to) {
    const int64_t tiles = int64_t(plan.tiles.size()), shared = heads / kv_heads;
#pragma omp parallel for schedule(static)
    for (int64_t task = 0; task < kv_heads * tiles; ++task) {
        const int64_t h = task / tiles;
        const Tile& tile = plan.tiles[task % tiles];
        for (int64_t r = 0; r < tile.count; ++r) {
            S* line = to.at(h, tile.start + r);
            const float* first = parts + (h * shared * plan.rows + tile.offset + r) * width;
            float total[WIDEST];
            std::copy(first, first + width, total);
            for (int64_t g = 1; g < shared; ++g)
                for (int64_t d = 0; d < width; ++d) total[d] += first[g * plan.rows * width + d];
            for (int64_t d = 0; d < width; ++d) line[d] = narrow<S>(total[d]);
        }
    }
}

// Numbers of things by their cost, the dearest first.
std::vector<int64_t> dearest_first(const std::vector<int64_t>& costs) {
    std::vector<int64_t> order(costs.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = int64_t(i);
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return costs[a] > costs[b]; });
    return order;
}

template <typename S>
void forward(const Shape& shape, const int64_t* table, View<const S> query, View<const S> key, View<const S> value,
             View<S> output, float* log_sums) {
    const Plan plan(table, shape.segments);
    Room<S>& mine = room<S>();
    const Tiled<S> keys(mine.keys, key, plan, shape.kv_heads, shape.width, false);
    const Tiled<S> values(mine.values, value, plan, shape.kv_heads, shape.value_width, true);
    std::vector<int64_t> costs;
    for (const Block& block : plan.blocks) costs.push_back(int64_t(plan.seen(block, shape.window).size()));
    const std::vector<int64_t> order = dearest_first(costs);
    Tasks tasks;
#pragma omp parallel
    {
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < int64_t(order.size()) * shape.heads; ++task)
            tasks.run([&] {
                attend(plan, plan.blocks[order[task / shape.heads]], task % shape.heads, shape, query, keys, values,
                       output, log_sums);
            });
        at::native::cpublas::brgemm_release(sizeof(S) == 2);
    }
    tasks.finish();
}

// One task is a tree and a head of queries, so that nothing is added to by two threads.
template <typename S>
void backward(const Shape& shape, const int64_t* table, View<const S> query, View<const S> key, View<const S> value,
              View<const S> output, View<const S> grad, const float* log_sums, View<S> grad_query, View<S> grad_key,
              View<S> grad_value) {
    const Plan plan(table, shape.segments);
    Room<S>& mine = room<S>();
    const Tiled<S> keys(mine.keys, key, plan, shape.kv_heads, shape.width, true);
    const Tiled<S> values(mine.values, value, plan, shape.kv_heads, shape.value_width, false);
    float *grad_keys = scratch(mine.grad_keys, shape.heads * plan.rows * shape.width),
          *grad_values = scratch(mine.grad_values, shape.heads * plan.rows * shape.value_width);
    const Given<S> given{query, output, grad, keys, values, log_sums, grad_query, grad_keys, grad_values};
    std::vector<int64_t> costs;
    for (const auto& blocks : plan.roots) {
        costs.push_back(0);
        for (const int64_t b : blocks) costs.back() += int64_t(plan.seen(plan.blocks[b], shape.window).size());
    }
    const std::vector<int64_t> order = dearest_first(costs);
    Tasks tasks;
#pragma omp parallel
    {
#pragma omp for schedule(static)
        for (int64_t h = 0; h < shape.heads; ++h) {
            const int64_t keys_share = plan.rows * shape.width, values_share = plan.rows * shape.value_width;
            std::memset(grad_keys + h * keys_share, 0, keys_share * sizeof(float));
            std::memset(grad_values + h * values_share, 0, values_share * sizeof(float));
        }
#pragma omp for schedule(dynamic)
        for (int64_t task = 0; task < int64_t(order.size()) * shape.heads; ++task)
            for (const int64_t b : plan.roots[order[task / shape.heads]])
                tasks.run([&] { push(plan, plan.blocks[b], task % shape.heads, shape, given); });
        at::native::cpublas::brgemm_release(sizeof(S) == 2);
    }
    tasks.finish();
    gather(plan, grad_keys, shape.heads, shape.kv_heads, shape.width, grad_key);
    gather(plan, grad_values, shape.heads, shape.kv_heads, shape.value_width, grad_value);
}

}  // namespace
}  // namespace burnish

using namespace burnish;

// strides: of head and token of each tensor in the order of the arguments.
#define ATTENTION(NAME, S)                                                                                     \
    extern "C" int attention_forward_##NAME(const Shape* shape, const int64_t* table, const int64_t* strides,  \
                                            const S* query, const S* key, const S* value, S* output,           \
                                            float* log_sums) {                                                 \
        return told([=] {                                                                                      \
            forward<S>(*shape, table, {query, strides[0], strides[1]}, {key, strides[2], strides[3]},          \
                       {value, strides[4], strides[5]}, {output, strides[6], strides[7]}, log_sums);           \
        });                                                                                                    \
    }                                                                                                          \
    extern "C" int attention_backward_##NAME(const Shape* shape, const int64_t* table, const int64_t* strides, \
                                             const S* query, const S* key, const S* value, const S* output,    \
                                             const S* grad, const float* log_sums, S* grad_query, S* grad_key, \
                                             S* grad_value) {                                                  \
        return told([=] {                                                                                      \
            backward<S>(*shape, table, {query, strides[0], strides[1]}, {key, strides[2], strides[3]},         \
                        {value, strides[4], strides[5]}, {output, strides[6], strides[7]},                     \
                        {grad, strides[8], strides[9]}, log_sums, {grad_query, strides[10], strides[11]},      \
                        {grad_key, strides[12], strides[13]}, {grad_value, strides[14], strides[15]});         \
        });                                                                                                    \
    }

// Gives back what threads keep from one call to the next.
extern "C" int attention_release() {
#pragma omp parallel
    room<bf16>() = {}, room<float>() = {};
    return 0;
}

ATTENTION(bfloat16, bf16)
ATTENTION(float32, float)
