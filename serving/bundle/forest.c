/* Evaluates and explains a forest of decision trees, exactly as LightGBM does. `forest.py` packs and calls it.

The caller guarantees that every index is in range and that a child comes after its parent; nothing is checked here.

A row first becomes ranks: one 16-bit number for each column. The rank of a value is the number of the feature's
thresholds below it, so `rank > bound` decides as `value > threshold` does. A feature has a column for each way in which
its missing values are treated; their ranks put them on their side of every threshold. A categorical feature has a
column for every 16 levels, with the bit of its level; a set of more levels becomes a chain of nodes with one left
child. Scores are sums of doubles in the order of the trees, from 0.0, so they equal LightGBM's bit for bit. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINED static inline __attribute__((always_inline))
#if defined(__clang__) /* the loop's arrays do not overlap */
#define APART _Pragma("clang loop vectorize(assume_safety)")
#else
#define APART _Pragma("GCC ivdep")
#endif
/* Compiled twice and chosen by processor: 256-bit vectors double the speed. `target_clones` would do the same, but not in
a library that Zig links: its run-time routines see no features of a processor. */
#if defined(__x86_64__)
#include <cpuid.h>
static int has_avx2;
__attribute__((constructor)) static void examine(void)
{
    unsigned a, b, c, d, low = 0, high = 0;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE)) return;
    __asm__("xgetbv" : "=a"(low), "=d"(high) : "c"(0)); /* does the system save these registers? */
    has_avx2 = (low & 6) == 6 && __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & bit_AVX2;
}
#define TWICE(name, head, work, ...) \
    __attribute__((target("avx2"))) static int64_t work##_avx2 head { return work(__VA_ARGS__); } \
    int64_t name head { return has_avx2 ? work##_avx2(__VA_ARGS__) : work(__VA_ARGS__); }
#else
#define TWICE(name, head, work, ...) \
    int64_t name head { return work(__VA_ARGS__); }
#endif

#define LANES 64      /* rows side by side */
#define FEW 8         /* so few rows are scored one by one */
#define SWEPT 256     /* a tree of more nodes is walked row by row */
#define TREES 8       /* trees side by side for one row */
#define POINTS 8      /* quadrature points side by side */
#define LINE_BYTES 64 /* of the cache; a vector across two lines takes twice as long */

typedef struct { uint16_t column, bound; int16_t child[2]; } Node; /* left, right; a child c < 0 is the leaf ~c */
typedef struct { int32_t node, leaf, nodes, leaves; } Tree; /* first node and leaf, counts */
typedef struct { int32_t first, sets; } Rule;               /* sets of quadrature points */
typedef struct { int32_t source, first, bounds, column, columns; } Number; /* place in a row, thresholds, columns */
typedef struct { int16_t nan, zero; } Missing; /* ranks of a column for NaN and for zero; -1: the value's own */
typedef struct { int32_t source, column, columns; } Category;

typedef struct {
    int64_t width, classes, trees, numbers, categories, columns, numeric, most_nodes;
    const Node *node;
    const Tree *tree;
    const double *leaf, *bound;
    const Number *number;
    const Missing *missing;
    const Category *category;
    const int32_t *source; /* place in a row of each column's feature */
    const double *share, *before, *point; /* these and the next are set for explanations only, see `forest_paths.py` */
    const int32_t *above;
    const Rule *rule;
} Forest;

/* Returns the first whole cache line of memory. */
INLINED void *aligned(void *memory)
{
    return (void *)(((uintptr_t)memory + LINE_BYTES - 1) / LINE_BYTES * LINE_BYTES);
}

INLINED int is_infinite(double value) { return fabs(value) > DBL_MAX; }

/* Writes the ranks of `lanes` rows, of which `count` are there: `ranks[column * lanes + row]`. */
INLINED void rank(const Forest *f, const double *rows, int64_t count, int64_t lanes, int16_t *ranks)
{
    double value[LANES];
    int32_t below[LANES];
    for (int64_t i = 0; i < lanes; i++) value[i] = 0;
    for (int64_t u = 0; u < f->numbers; u++) {
        const Number number = f->number[u];
        const double *bound = f->bound + number.first;
        for (int64_t i = 0; i < count; i++) {
            const double raw = rows[i * f->width + number.source];
            value[i] = fabs(raw) <= (double)1e-35f ? 0 : raw; /* LightGBM's zeros */
        }
        for (int64_t i = 0; i < lanes; i++) below[i] = 0;
        for (int32_t length = number.bounds; length > 1;) {
            const int32_t half = length / 2;
            for (int64_t i = 0; i < lanes; i++) below[i] += half * (bound[below[i] + half - 1] < value[i]);
            length -= half;
        }
        for (int64_t i = 0; i < lanes; i++) below[i] += bound[below[i]] < value[i];
        for (int64_t c = number.column; c < number.column + number.columns; c++) {
            const Missing missing = f->missing[c];
            for (int64_t i = 0; i < lanes; i++) {
                const int32_t zero = value[i] == 0 && missing.zero >= 0 ? missing.zero : below[i];
                ranks[c * lanes + i] = (int16_t)(value[i] != value[i] ? missing.nan : zero);
            }
        }
    }
    for (int64_t u = 0; u < f->categories; u++) {
        const Category category = f->category[u];
        int16_t *bits = ranks + category.column * lanes;
        memset(bits, 0, sizeof *bits * (size_t)(category.columns * lanes));
        for (int64_t i = 0; i < count; i++) {
            const double raw = rows[i * f->width + category.source];
            if (raw > -1 && raw < 16.0 * category.columns) { /* truncated, as LightGBM does */
                const int32_t level = (int32_t)raw;
                bits[level / 16 * lanes + i] = (int16_t)(uint16_t)(1u << level % 16);
            }
        }
    }
}

INLINED int goes_right(const Forest *f, const Node *node, int16_t rank)
{
    return node->column < f->numeric ? rank > (int16_t)node->bound : !((uint16_t)rank & node->bound);
}

/* Returns the leaf of one row in a tree. */
INLINED int64_t walk(const Forest *f, Tree tree, const int16_t *ranks, int64_t lanes)
{
    int64_t at = tree.nodes ? 0 : -1;
    while (at >= 0) {
        const Node *node = f->node + tree.node + at;
        at = node->child[goes_right(f, node, ranks[node->column * lanes])];
    }
    return ~at;
}

/* Writes the leaf of each row in a tree to `leaves[0]` and following; `leaves[c * LANES]` has the leaf ~c for c < 0. */
INLINED void sweep(const Forest *f, Tree tree, const int16_t *ranks, int16_t *leaves)
{
    for (int64_t n = tree.nodes - 1; n >= 0; n--) {
        const Node node = f->node[tree.node + n];
        const int16_t bound = (int16_t)node.bound;
        const int16_t *restrict rank = ranks + node.column * LANES;
        const int16_t *left = leaves + node.child[0] * LANES, *right = leaves + node.child[1] * LANES;
        int16_t *restrict leaf = leaves + n * LANES;
        if (node.column < f->numeric)
            APART for (int64_t i = 0; i < LANES; i++) {
                const int16_t l = left[i], r = right[i];
                leaf[i] = rank[i] > bound ? r : l;
            }
        else
            APART for (int64_t i = 0; i < LANES; i++) {
                const int16_t l = left[i], r = right[i];
                leaf[i] = rank[i] & bound ? l : r;
            }
    }
}

/* Writes the raw score of one row for each class; several trees are walked at a time. Returns 0 if a value is infinite;
-1 if none is; -2 if memory is short. */
int64_t callsieve_forest_score(const Forest *f, const double *row, double *scores)
{
    for (int64_t i = 0; i < f->width; i++)
        if (is_infinite(row[i])) return 0;
    int16_t *ranks = malloc(sizeof *ranks * (size_t)(f->columns + 1));
    if (!ranks) return -2;
    rank(f, row, 1, 1, ranks);
    for (int64_t k = 0; k < f->classes; k++) scores[k] = 0;
    int64_t class = 0; /* counted, because a division takes as long as two nodes */
    for (int64_t first = 0; first < f->trees; first += TREES) {
        const int64_t trees = f->trees - first < TREES ? f->trees - first : TREES;
        const Node *root[TREES];
        int64_t at[TREES], inner = trees == TREES;
        for (int64_t j = 0; j < trees; j++) {
            root[j] = f->node + f->tree[first + j].node;
            at[j] = f->tree[first + j].nodes ? 0 : -1;
            inner &= at[j] == 0;
        }
        while (inner) {
            inner = 0;
            for (int64_t j = 0; j < TREES; j++) {
                const int64_t ended = at[j] >> 63; /* masks: a branch would be mispredicted */
                const Node *node = root[j] + (at[j] & ~ended);
                const int64_t next = node->child[goes_right(f, node, ranks[node->column])];
                at[j] = (at[j] & ended) | (next & ~ended);
                inner |= ~at[j];
            }
            inner = inner < 0;
        }
        for (int64_t j = 0; j < trees; j++) {
            const Tree tree = f->tree[first + j];
            const int64_t leaf = at[j] < 0 ? ~at[j] : walk(f, tree, ranks, 1);
            scores[class] += f->leaf[tree.leaf + leaf];
            class = class + 1 < f->classes ? class + 1 : 0;
        }
    }
    free(ranks);
    return -1;
}

/* Writes the raw scores of rows, shape (count, classes). Returns the first row with an infinite value; -1
without one; -2 if memory is short. */
INLINED int64_t score_rows(const Forest *f, const double *rows, int64_t count, double *scores)
{
    const int64_t swept = f->most_nodes < SWEPT ? f->most_nodes : SWEPT;
    void *memory = calloc((size_t)((f->columns + swept + 2 + swept + 1) * LANES) + LINE_BYTES, sizeof(int16_t));
    if (!memory) return -2;
    int16_t *ranks = aligned(memory);
    int16_t *leaves = ranks + (f->columns + swept + 2) * LANES;
    for (int64_t c = -1; c >= -(swept + 1); c--)
        for (int64_t i = 0; i < LANES; i++) leaves[c * LANES + i] = (int16_t)~c;
    memset(scores, 0, sizeof *scores * (size_t)(count * f->classes));
    for (int64_t first = 0; first < count; first += LANES) {
        const int64_t rest = count - first < LANES ? count - first : LANES;
        for (int64_t i = first * f->width; i < (first + rest) * f->width; i++)
            if (is_infinite(rows[i])) {
                free(memory);
                return i / f->width;
            }
        for (int64_t i = 0; rest < FEW && i < rest; i++) {
            const int64_t row = first + i;
            if (callsieve_forest_score(f, rows + row * f->width, scores + row * f->classes) == -2) {
                free(memory);
                return -2;
            }
        }
        if (rest < FEW) break;
        rank(f, rows + first * f->width, rest, LANES, ranks);
        for (int64_t t = 0; t < f->trees; t++) {
            const Tree tree = f->tree[t];
            const double *leaf = f->leaf + tree.leaf;
            double *score = scores + first * f->classes + t % f->classes;
            if (tree.nodes && tree.nodes <= swept) {
                sweep(f, tree, ranks, leaves);
                for (int64_t i = 0; i < rest; i++) score[i * f->classes] += leaf[leaves[i]];
            } else {
                for (int64_t i = 0; i < rest; i++) score[i * f->classes] += leaf[walk(f, tree, ranks + i, LANES)];
            }
        }
    }
    free(memory);
    return -1;
}

/* One split on the way of an explanation: its node and children, and values at each point as `forest.py` names them. */
typedef struct { int32_t node, left, right, feature; } Split;
typedef struct { double at[POINTS]; } Line;
#define LINE APART _Pragma("GCC unroll 2") for (int i = 0; i < POINTS; i++)

/* Adds the integrals of a tree at one set of points to `sums`, by feature. The lines of a leaf ~c are at index c. */
INLINED void explain(const Forest *f, Tree tree, const double *point, const int16_t *ranks, Split *split,
                     uint8_t *side, Line *restrict weight, Line *restrict g, Line *restrict rho, Line *restrict mean,
                     Line *restrict sums)
{
    const double *t = point;
    int32_t splits = 0;
    memcpy(weight, point + POINTS, sizeof *weight);
    for (int32_t n = 0; n < tree.nodes; n++) {
        const int32_t first = n, above = f->above[tree.node + first];
        const Node *node = f->node + tree.node + n;
        int right = goes_right(f, node, ranks[node->column]);
        if (node->column >= f->numeric) /* a chain: its nodes have one left child, which no other node has */
            while (node->child[1] == n + 1 && node[1].child[0] == node->child[0]) {
                n++, node++;
                right = right && goes_right(f, node, ranks[node->column]);
            }
        const Split new = {first, node->child[0], node->child[1], f->source[node->column]};
        split[splits++] = new;
        /* Bit 0: the row goes right. Bit 1: it has left the path to this node at a node of the same feature. */
        const int left_path = above >= 0 && (side[above / 2] & 2 || (side[above / 2] & 1) != above % 2);
        side[first] = (uint8_t)(right | left_path << 1);
        const double share = f->share[tree.node + first], before = f->before[tree.node + first];
        const double c = !left_path * (!right - share); /* without a branch, which would be mispredicted */
        const double *own = weight[first].at;
        double *to_left = weight[new.left].at, *to_right = weight[new.right].at, *edge = g[first].at;
        double *integral = rho[first].at;
        if (above < 0) /* no node above splits by the feature */
            LINE {
                const double near = share + t[i] * c, left = own[i] * near;
                edge[i] = near;
                integral[i] = own[i] * c;
                to_left[i] = left;
                to_right[i] = own[i] - left;
            }
        else
            LINE {
                const double scale = 1 / (before + t[i] * (1 - before));
                const double near = share + t[i] * scale * c, left = own[i] * near;
                edge[i] = near;
                integral[i] = own[i] * (before * (scale * scale) * c);
                to_left[i] = left;
                to_right[i] = own[i] - left;
            }
    }
    while (splits--) {
        const Split now = split[splits];
        const double *left = mean[now.left].at, *right = mean[now.right].at;
        const double *edge = g[now.node].at, *integral = rho[now.node].at;
        double *sum = sums[now.feature].at, *own = mean[now.node].at;
        LINE {
            const double gain = left[i] - right[i];
            sum[i] += gain * integral[i];
            own[i] = right[i] + edge[i] * gain;
        }
    }
}

TWICE(callsieve_forest_scores, (const Forest *f, const double *rows, int64_t count, double *scores),
      score_rows, f, rows, count, scores)

/* Writes the contributions of the features of one row to the score of each class, shape (classes, width). Returns like
`callsieve_forest_score`. */
INLINED int64_t explain_row(const Forest *f, const double *row, double *contributions)
{
    for (int64_t i = 0; i < f->width; i++)
        if (is_infinite(row[i])) return 0;
    const int64_t most = f->most_nodes + 1, sums = f->classes * f->width;
    void *memory = malloc(LINE_BYTES + sizeof(Line) * (size_t)(sums + 6 * most) + sizeof(Split) * (size_t)most
                          + sizeof(int16_t) * (size_t)(f->columns + 1) + (size_t)most);
    if (!memory) return -2;
    Line *lines = aligned(memory);
    Line *weight = lines + sums + most, *mean = weight + 2 * most, *g = mean + most, *rho = g + most;
    Split *split = (Split *)(rho + most);
    int16_t *ranks = (int16_t *)(split + most);
    uint8_t *side = (uint8_t *)(ranks + f->columns + 1);
    rank(f, row, 1, 1, ranks);
    memset(lines, 0, sizeof *lines * (size_t)sums);
    for (int64_t t = 0; t < f->trees; t++) {
        const Tree tree = f->tree[t];
        for (int64_t n = 0; tree.nodes && n < tree.leaves; n++)
            for (int i = 0; i < POINTS; i++) mean[~n].at[i] = f->leaf[tree.leaf + n];
        for (int32_t s = 0; s < f->rule[t].sets; s++)
            explain(f, tree, f->point + f->rule[t].first + s * 2 * POINTS, ranks, split, side, weight, g, rho, mean,
                    lines + t % f->classes * f->width);
    }
    for (int64_t i = 0; i < sums; i++) {
        contributions[i] = 0;
        for (int k = 0; k < POINTS; k++) contributions[i] += lines[i].at[k];
    }
    free(memory);
    return -1;
}

TWICE(callsieve_forest_explain, (const Forest *f, const double *row, double *contributions),
      explain_row, f, row, contributions)

const uint64_t callsieve_forest_version = FOREST_VERSION;
