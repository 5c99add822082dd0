// LoRA for rows grouped by adapter, and attention over a paged cache. Plain C++ with vector extensions: compiled for
// the machine at hand it uses AVX-512, AVX2 or NEON. Sums are float32, whatever the tensors hold. Adapters and runs of
// tokens are spread over as many threads as torch has: they share its OpenMP, and no row has two of them.
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

namespace {

constexpr int LANES = 16, RANK = 8, PAGE = LANES, ROWS = 4, BLOCK = 8, TILE = 48;
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t half __attribute__((vector_size(2 * LANES)));
typedef uint16_t bf16;

inline vec load(const float* p) { vec v; memcpy(&v, p, sizeof v); return v; }
inline void store(float* p, vec v) { memcpy(p, &v, sizeof v); }
inline vec load(const bf16* p) {
    half h;
    memcpy(&h, p, sizeof h);
    return (vec)(__builtin_convertvector(h, uvec) << 16);
}
inline void store(bf16* p, vec v) {  // rounds to the nearest, ties to even
    uvec u = (uvec)v;
    half h = __builtin_convertvector((u + 0x7fff + ((u >> 16) & 1)) >> 16, half);
    memcpy(p, &h, sizeof h);
}
inline float number(float f) { return f; }
inline float number(bf16 h) {
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}
inline float sum(vec v) {
    typedef float vec8 __attribute__((vector_size(32)));
    typedef float vec4 __attribute__((vector_size(16)));
    vec8 a = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
             __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
    vec4 b = __builtin_shufflevector(a, a, 0, 1, 2, 3) + __builtin_shufflevector(a, a, 4, 5, 6, 7);
    return (b[0] + b[2]) + (b[1] + b[3]);
}
inline vec splat(float f) { return f - vec{}; }

inline vec exp(vec x) {  // 2^n * e^r, |r| <= ln2 / 2; relative error 2e-7; below -87 it is 0 in all but name
    x = x < -87.0f ? splat(-87.0f) : x;
    vec n = x * 1.44269504f + 12582912.0f - 12582912.0f;  // rounds to the nearest whole number
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = splat(1.9875691e-4f);
    p = p * r + 1.3981999e-3f;
    p = p * r + 8.3334519e-3f;
    p = p * r + 4.1665796e-2f;
    p = p * r + 1.6666665e-1f;
    p = p * r + 0.5f;
    return (p * r * r + r + 1.0f) * (vec)((__builtin_convertvector(n, ivec) + 127) << 23);
}

// A thread's scratch memory for `count` numbers, aligned to a cache line: a vector across two lines costs twice.
inline float* room(size_t count) {
    static thread_local std::vector<float> scratch;
    if (scratch.size() < count + LANES) scratch.resize(count + LANES);
    return (float*)(((uintptr_t)scratch.data() + 63) & ~(uintptr_t)63);
}

// Prefetches memory that will be needed soon, a little in each step of a loop that works on something else.
struct Ahead {
    const char *at, *end;
    long pace;  // bytes a step
    Ahead(const void* from, size_t bytes, size_t steps)
        : at((const char*)from), end(at + bytes), pace((bytes / (steps + 1) / 64 + 1) * 64) {}
    inline void step() {
        for (const char* stop = at + pace; at < stop; at += 64)
            if (at < end) __builtin_prefetch(at, 0, 2);
    }
};

// low[row][k] = a[k] . x[row], for `count` rows of a and R of x.
template <int R, typename T>
void shrink(const float* x, const T* a, int count, int in, float* low, Ahead ahead) {
    for (int k = 0; k < count; k += 4) {
        vec acc[4][R] = {};
        for (int i = 0; i < in; i += LANES) {
            ahead.step();
            for (int j = 0; j < 4; j++) {
                vec w = load(a + (long)(k + j) * in + i);
                for (int r = 0; r < R; r++) acc[j][r] += w * load(x + (long)r * in + i);
            }
        }
        for (int j = 0; j < 4; j++)
            for (int r = 0; r < R; r++) low[r * count + k + j] = sum(acc[j][r]);
    }
}

// out[row][o] += low[row] . b[:, o] for the columns of one part.
template <int R, typename T>
void expand(const float* low, const T* b, int slots, int parts, int part, int out, int from, int to, T* y, Ahead& ahead) {
    int count = slots * parts * RANK;
    for (int o = from; o < to; o += LANES) {
        vec acc[R];
        ahead.step();
        for (int r = 0; r < R; r++) acc[r] = load(y + (long)r * out + o);
        for (int s = 0; s < slots; s++)
            for (int k = 0; k < RANK; k++) {
                vec w = load(b + (long)(s * RANK + k) * out + o);
                for (int r = 0; r < R; r++) acc[r] += low[r * count + (s * parts + part) * RANK + k] * w;
            }
        for (int r = 0; r < R; r++) store(y + (long)r * out + o, acc[r]);
    }
}

template <int R, typename T>
void block(const T* x, T* y, const T* a, const T* b, int slots, int in, const int* bounds, int parts, float* scratch,
           const T* next) {
    int out = bounds[parts], count = slots * parts * RANK;
    float* low = scratch + (long)ROWS * in;
    for (int i = 0; i < R * in; i += LANES) store(scratch + i, load(x + i));
    shrink<R>(scratch, a, count, in, low, Ahead(b, sizeof(T) * slots * RANK * out, (size_t)count / 4 * in / LANES));
    Ahead ahead(next, sizeof(T) * count * in, out / LANES);
    for (int p = 0; p < parts; p++) expand<R>(low, b, slots, parts, p, out, bounds[p], bounds[p + 1], y, ahead);
}

// x [rows, in], y [rows, out]; a [slots, parts * RANK, in], b [slots, RANK, out];
// each segment: first row, row after the last, first slot, number of slots.
template <typename T>
void lora(const T* x, T* y, const T* a, const T* b, const int* segments, int n, int in, const int* bounds, int parts) {
    int out = bounds[parts];
    auto segment = [&](int s) {
        const int* own = segments + 4L * s;
        const T* a_ = a + (long)own[2] * parts * RANK * in;
        const T* b_ = b + (long)own[2] * RANK * out;
        int slots = own[3];
        float* scratch = room((size_t)ROWS * (in + slots * parts * RANK));
        const T* next = a + (long)own[s + 1 < n ? 6 : 2] * parts * RANK * in;
        for (int row = own[0]; row < own[1];) {
            const T* x_ = x + (long)row * in;
            T* y_ = y + (long)row * out;
            int left = own[1] - row;
            if (left >= 4) block<4>(x_, y_, a_, b_, slots, in, bounds, parts, scratch, next), row += 4;
            else if (left == 3) block<3>(x_, y_, a_, b_, slots, in, bounds, parts, scratch, next), row += 3;
            else if (left == 2) block<2>(x_, y_, a_, b_, slots, in, bounds, parts, scratch, next), row += 2;
            else block<1>(x_, y_, a_, b_, slots, in, bounds, parts, scratch, next), row += 1;
        }
    };
    // Segments are rows of different adapters: threads share no row, and a thread reads an adapter once.
#pragma omp parallel for schedule(static) if (n > 1)
    for (int s = 0; s < n; s++) segment(s);
}

// a [rank, in] and b [out, rank] into the slots from to_a and to_b on: one layer of `parts`, one of `outs` columns.
template <typename S, typename T>
void put(const S* a, const S* b, T* to_a, T* to_b, int rank, int in, int out, int parts, int outs, float scale) {
    for (int k = 0; k < rank; k++) {
        T* line = to_a + ((long)(k / RANK) * parts * RANK + k % RANK) * in;
        for (int i = 0; i < in; i += LANES) store(line + i, load(a + (long)k * in + i));
    }
    for (int o = 0; o < out; o += LANES)
        for (int k = 0; k < rank; k++) {
            vec column;
            for (int i = 0; i < LANES; i++) column[i] = scale * number(b[(long)(o + i) * rank + k]);
            store(to_b + (long)k * outs + o, column);
        }
}

struct Shape {
    int count, heads, kv_heads, dim, window, width;  // width: pages in a row of the table
    float scale, softcap;
};

template <typename T>
inline void fetch(const T* from, long count) {
    for (long i = 0; i < count; i += 64 / sizeof(T)) __builtin_prefetch(from + i, 0, 2);
}

inline int padded(int span) { return (span + LANES - 1) / LANES * LANES; }

// Turns the scores of one head into softmax weights before normalisation; returns their sum. The line has room for
// `padded(span)` numbers.
inline float exponentiate(float* line, int span, float softcap) {
    if (softcap > 0)
        for (int i = 0; i < span; i++) line[i] = softcap * tanhf(line[i] / softcap);
    for (int i = span; i < padded(span); i++) line[i] = -1e38f;
    vec tops = load(line);
    for (int i = LANES; i < span; i += LANES) {
        vec x = load(line + i);
        tops = x > tops ? x : tops;
    }
    float top = tops[0];
    for (int i = 1; i < LANES; i++) top = tops[i] > top ? tops[i] : top;
    vec total = {};
    for (int i = 0; i < span; i += LANES) {
        vec e = exp(load(line + i) - top);
        store(line + i, e);
        total += e;
    }
    return sum(total);
}

// One token's query heads q [heads, dim], scaled, over the positions [begin, end) of its pages; y [heads, dim]. Positions
// are the outer loop: keys and values are read once, in the order in which they lie in memory. G heads share one key.
template <int G, typename T>
void attend_token(const float* q, const T* keys, const T* values, const int* table, int begin, int end,
                  const Shape& s, float* scores, float* y) {
    int span = end - begin, width = padded(span);
    long stride = (long)s.kv_heads * s.dim;
    auto row = [&](int i) { return ((long)table[(begin + i) / PAGE] * PAGE + (begin + i) % PAGE) * stride; };
    for (int i = 0; i < span; i++) {
        const T* key = keys + row(i);
        fetch(values + row(i), stride);  // wanted when all scores are known
        if (i + 8 < span) fetch(keys + row(i + 8), stride);
        for (int h = 0; h < s.kv_heads; h++) {
            vec dot[G] = {};
            for (int d = 0; d < s.dim; d += LANES) {
                vec w = load(key + h * s.dim + d);
                for (int g = 0; g < G; g++) dot[g] += w * load(q + (long)(h * G + g) * s.dim + d);
            }
            for (int g = 0; g < G; g++) scores[(long)(h * G + g) * width + i] = sum(dot[g]);
        }
    }
    float* totals = scores + (long)s.heads * width;
    for (int h = 0; h < s.heads; h++) totals[h] = exponentiate(scores + (long)h * width, span, s.softcap);
    memset(y, 0, sizeof(float) * s.heads * s.dim);
    for (int i = 0; i < span; i++) {
        const T* value = values + row(i);
        for (int h = 0; h < s.kv_heads; h++)
            for (int d = 0; d < s.dim; d += LANES) {
                vec w = load(value + h * s.dim + d);
                for (int g = 0; g < G; g++) {
                    float* to = y + (long)(h * G + g) * s.dim + d;
                    store(to, load(to) + scores[(long)(h * G + g) * width + i] * w);
                }
            }
    }
    for (int h = 0; h < s.heads; h++)
        for (int d = 0; d < s.dim; d += LANES) store(y + (long)h * s.dim + d, load(y + (long)h * s.dim + d) / totals[h]);
}

template <int S, int... L>
inline void swap(vec& a, vec& b, std::integer_sequence<int, L...>) {
    vec low = __builtin_shufflevector(a, b, (L & S ? L - S + LANES : L)...);
    b = __builtin_shufflevector(a, b, (L & S ? L + LANES : L + S)...);
    a = low;
}
template <int S>
inline void swap_blocks(vec* m) {
    for (int i = 0; i < LANES; i++)
        if (!(i & S)) swap<S>(m[i], m[i + S], std::make_integer_sequence<int, LANES>());
}

// Keys of a page, `stride` apart, to columns [dim, PAGE]; those from `count` on become 0.
template <typename T>
void transpose(const T* keys, long stride, int count, int dim, float* columns) {
    for (int d = 0; d < dim; d += LANES) {
        vec m[LANES];
        for (int i = 0; i < PAGE; i++) m[i] = i < count ? load(keys + i * stride + d) : vec{};
        swap_blocks<8>(m);
        swap_blocks<4>(m);
        swap_blocks<2>(m);
        swap_blocks<1>(m);
        for (int i = 0; i < LANES; i++) store(columns + (long)(d + i) * PAGE, m[i]);
    }
}

// scores[r] = queries[r] . the keys of a page, for R queries [R, dim]; lines of scores are `width` apart.
template <int R>
void score(const float* queries, const float* columns, int dim, float* scores, int width) {
    vec acc[R] = {};
    for (int d = 0; d < dim; d++) {
        vec w = load(columns + (long)d * PAGE);
        for (int r = 0; r < R; r++) acc[r] += queries[(long)r * dim + d] * w;
    }
    for (int r = 0; r < R; r++) store(scores + (long)r * width, acc[r]);
}

// sums[r] += weights[r] . rows, for R queries and N vectors of the columns of `count` rows [count, dim].
template <int R, int N>
void mix(const float* weights, int width, const float* rows, int count, int dim, float* sums) {
    vec acc[R][N];
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) acc[r][n] = load(sums + (long)r * dim + n * LANES);
    for (int i = 0; i < count; i++) {
        vec v[N];
        for (int n = 0; n < N; n++) v[n] = load(rows + (long)i * dim + n * LANES);
        for (int r = 0; r < R; r++)
            for (int n = 0; n < N; n++) acc[r][n] += weights[(long)r * width + i] * v[n];
    }
    for (int r = 0; r < R; r++)
        for (int n = 0; n < N; n++) store(sums + (long)r * dim + n * LANES, acc[r][n]);
}

// `count` neighbouring tokens of a sequence, the first of which sees positions up to `end`, with the query heads of one
// key head: q [queries, dim], scaled, a multiple of BLOCK, token by token. Every page is unpacked once for all of them.
// `keys` and `values` begin at the key head. Sums [queries, dim] are the answer.
template <typename T>
void attend_tile(const float* q, const T* keys, const T* values, const int* table, int count, int end, const Shape& s,
                 int queries, float* scratch, float* sums) {
    int group = s.heads / s.kv_heads, last = end + count - 1;
    long stride = (long)s.kv_heads * s.dim;
    auto begin = [&](int token) { int e = end + token; return s.window > 0 && e > s.window ? e - s.window : 0; };
    int first = begin(0) / PAGE * PAGE, width = padded(last - first) + LANES;
    float *columns = scratch, *rows = columns + (long)PAGE * s.dim, *totals = rows + (long)PAGE * s.dim;
    float* scores = totals + padded(queries);
    auto page = [&](const T* from, int at) { return from + (long)table[at / PAGE] * PAGE * stride; };
    auto held = [&](int at) { return last - at < PAGE ? last - at : PAGE; };
    for (int at = first; at < last; at += PAGE) {
        transpose(page(keys, at), stride, held(at), s.dim, columns);
        for (int r = 0; r < queries; r += BLOCK)
            score<BLOCK>(q + (long)r * s.dim, columns, s.dim, scores + (long)r * width + at - first, width);
    }
    for (int r = 0; r < queries; r++) {
        int token = r / group < count ? r / group : count - 1;  // lines that only fill the last block: any token's
        float* line = scores + (long)r * width;
        int from = begin(token) - first, to = end + token - first;
        totals[r] = exponentiate(line + from, to - from, s.softcap);
        memset(line, 0, sizeof(float) * from);
        memset(line + to, 0, sizeof(float) * (width - to));
    }
    memset(sums, 0, sizeof(float) * queries * s.dim);
    for (int at = first; at < last; at += PAGE) {
        for (int i = 0; i < held(at); i++)
            for (int d = 0; d < s.dim; d += LANES)
                store(rows + (long)i * s.dim + d, load(page(values, at) + i * stride + d));
        for (int r = 0; r < queries; r += 4) {
            const float* weights = scores + (long)r * width + at - first;
            int d = 0;
            for (; d + 4 * LANES <= s.dim; d += 4 * LANES)
                mix<4, 4>(weights, width, rows + d, held(at), s.dim, sums + (long)r * s.dim + d);
            for (; d < s.dim; d += LANES) mix<4, 1>(weights, width, rows + d, held(at), s.dim, sums + (long)r * s.dim + d);
        }
    }
    for (int r = 0; r < queries; r++)
        for (int d = 0; d < s.dim; d += LANES)
            store(sums + (long)r * s.dim + d, load(sums + (long)r * s.dim + d) / totals[r]);
}

// The arguments that all tokens of a call share.
template <typename T>
struct Cache {
    const T* q;
    T *y, *keys, *values;
    const long* strides;
    const Shape& s;

    void query(long token, int head, float* to) const {  // scaled
        const T* from = q + token * strides[0] + head * strides[1];
        for (int d = 0; d < s.dim; d += LANES) store(to + d, load(from + d) * s.scale);
    }
    void answer(long token, int head, const float* from) const {
        T* to = y + (token * s.heads + head) * s.dim;
        for (int d = 0; d < s.dim; d += LANES) store(to + d, load(from + d));
    }
    int begin(int end) const { return s.window > 0 && end > s.window ? end - s.window : 0; }
};

template <typename T>
void attend_one(const Cache<T>& c, long token, int end, const int* table) {
    const Shape& s = c.s;
    int size = s.heads * s.dim, begin = c.begin(end);
    float* queries = room(2 * (size_t)size + (size_t)s.heads * (padded(end - begin) + 1));
    float *sums = queries + size, *scores = sums + size;
    for (int h = 0; h < s.heads; h++) c.query(token, h, queries + (long)h * s.dim);
    switch (s.heads / s.kv_heads) {
#define GROUP(G) case G: attend_token<G>(queries, c.keys, c.values, table, begin, end, s, scores, sums); break;
        GROUP(1) GROUP(2) GROUP(3) GROUP(4) GROUP(5) GROUP(6) GROUP(7) GROUP(8)
    }
    for (int h = 0; h < s.heads; h++) c.answer(token, h, sums + (long)h * s.dim);
}

// `count` neighbouring tokens of one sequence from `token` on, of which the first sees positions up to `end`.
template <typename T>
void attend_run(const Cache<T>& c, long token, int count, int end, const int* table) {
    const Shape& s = c.s;
    int group = s.heads / s.kv_heads, used = count * group, queries = (used + BLOCK - 1) / BLOCK * BLOCK;
    int span = padded(end + count - c.begin(end)) + 3 * LANES;
    long size = (long)queries * s.dim;
    float* scratch = room(2 * size + 2L * PAGE * s.dim + padded(queries) + (size_t)queries * span);
    memset(scratch + (long)used * s.dim, 0, sizeof(float) * (queries - used) * s.dim);
    for (int h = 0; h < s.kv_heads; h++) {
        for (int r = 0; r < used; r++) c.query(token + r / group, h * group + r % group, scratch + (long)r * s.dim);
        const T *keys = c.keys + h * s.dim, *values = c.values + h * s.dim;
        attend_tile(scratch, keys, values, table, count, end, s, queries, scratch + 2 * size, scratch + size);
        for (int r = 0; r < used; r++) c.answer(token + r / group, h * group + r % group, scratch + size + (long)r * s.dim);
    }
}

// q [tokens, heads, dim], k and v [tokens, kv_heads, dim] by strides of token and head; y [tokens, heads, dim];
// the caches are [pages * PAGE, kv_heads, dim]. Each of the `count` chosen tokens goes to its place and sees the first
// `ends` positions of the pages in its row of the tables, itself the last.
template <typename T>
void attend(const T* q, const T* k, const T* v, T* y, T* keys, T* values, const long* strides, const int* tokens,
            const int* places, const int* tables, const int* rows, const int* ends, const Shape& s) {
    for (int i = 0; i < s.count; i++)
        for (int h = 0; h < s.kv_heads; h++) {
            long t = tokens[i], to = ((long)places[t] * s.kv_heads + h) * s.dim;
            memcpy(keys + to, k + t * strides[2] + h * strides[3], sizeof(T) * s.dim);
            memcpy(values + to, v + t * strides[4] + h * strides[5], sizeof(T) * s.dim);
        }
    Cache<T> cache{q, y, keys, values, strides, s};
    int most = TILE / (s.heads / s.kv_heads);
    static thread_local std::vector<std::pair<int, int>> found;  // first token and number of tokens of each run
    found.clear();
    for (int i = 0, count; i < s.count; i += count) {
        int t = tokens[i];
        auto follows = [&](int n) { return tokens[i + n] == t + n && rows[t + n] == rows[t] && ends[t + n] == ends[t] + n; };
        for (count = 1; count < most && i + count < s.count && follows(count);) count++;
        found.emplace_back(t, count);
    }
    const std::pair<int, int>* runs = found.data();
    int n = found.size();
#pragma omp parallel for schedule(dynamic) if (n > 1)
    for (int r = 0; r < n; r++) {
        auto [t, count] = runs[r];
        const int* table = tables + (long)rows[t] * s.width;
        if (count == 1) attend_one(cache, t, ends[t], table);
        else attend_run(cache, t, count, ends[t], table);
    }
}

}  // namespace

#define EXPORT(T, NAME)                                                                                              \
    extern "C" void lora_##NAME(const T* x, T* y, const T* a, const T* b, const int* segments, int n, int in,        \
                                const int* bounds, int parts) {                                                      \
        lora(x, y, a, b, segments, n, in, bounds, parts);                                                            \
    }                                                                                                                \
    extern "C" void attend_##NAME(const T* q, const T* k, const T* v, T* y, T* keys, T* values, const long* strides, \
                                  const int* tokens, const int* places, const int* tables, const int* rows,          \
                                  const int* ends, const Shape* shape) {                                             \
        attend(q, k, v, y, keys, values, strides, tokens, places, tables, rows, ends, *shape);                       \
    }
#define PUT(S, FROM, T, TO)                                                                                       \
    extern "C" void put_##FROM##_##TO(const S* a, const S* b, T* to_a, T* to_b, int rank, int in, int out, int parts, \
                                      int outs, float scale) {                                                        \
        put(a, b, to_a, to_b, rank, in, out, parts, outs, scale);                                                     \
    }
PUT(float, float32, float, float32)
PUT(float, float32, bf16, bfloat16)
PUT(bf16, bfloat16, float, float32)
PUT(bf16, bfloat16, bf16, bfloat16)
EXPORT(float, float32)
EXPORT(bf16, bfloat16)
