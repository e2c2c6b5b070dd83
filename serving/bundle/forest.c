/* Evaluates and explains a forest of decision trees, exactly as LightGBM does. `forest.py` calls it.

`callsieve_forest_check` checks a file's nodes. Everywhere else the caller guarantees that every index is in range and
that a child comes after its parent.

A row first becomes ranks: one 16-bit number for each column. The rank of a value is the number of the feature's
thresholds below it, so `rank > bound` decides as `value > threshold` does. A feature has a column for each way in which
its missing values are treated; their ranks put them on their side of every threshold. A categorical feature has a
column for every 16 levels, with the bit of its level; a set of more levels becomes a chain of nodes with one left
child. Many rows descend the trees side by side. For one row, small trees have an index: the splits of a column by their
bounds, so that its rank says at once which leaves of which trees are out of reach. Scores are sums of doubles in the order of the trees, from 0.0, so they equal LightGBM's bit for bit. */

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
#define EXPLAINED 64  /* rows explained side by side; their sums fit a second-level cache */
#define SHARED 64     /* a tree of more splits is explained row by row */
#define LINE_BYTES 64 /* of the cache; a vector across two lines takes twice as long */

typedef struct { uint16_t column, bound; int16_t child[2]; } Node; /* left, right; a child c < 0 is the leaf ~c */
typedef struct { int32_t node, leaf, nodes, leaves; } Tree; /* first node and leaf, counts */
typedef struct { int32_t first, sets; } Rule;               /* sets of quadrature points */
typedef struct { int32_t source, first, bounds, column, columns; } Number; /* place in a row, thresholds, columns */
typedef struct { int16_t nan, zero; } Missing; /* ranks of a column for NaN and for zero; -1: the value's own */
typedef struct { int32_t source, column, columns; } Category;
typedef struct { uint16_t tree, kept; } Cut;           /* leaves of a tree that a split leaves in reach, as bits */
typedef struct { int32_t begin, end; } Span;           /* cuts of a column and rank */
typedef struct { uint16_t column, bound, tree, kept; } Set; /* `kept` of a chain is with its last node, else 0 */

typedef struct {
    int64_t width, classes, trees, numbers, categories, columns, numeric, most_nodes, sets;
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
    const Cut *cut; /* the index of small trees; NULL without one */
    const Span *span;
    const Set *set;
    const uint8_t *order;
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

/* Adds the leaves of one row to the scores of the classes; several trees are walked at a time. */
INLINED void score_by_walks(const Forest *f, const int16_t *ranks, double *scores)
{
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
}

/* Writes the scores of one row for the classes, by the index (Lucchese et al. 2015, QuickScorer). */
INLINED void score_by_index(const Forest *f, const int16_t *ranks, uint16_t *reach, double *scores)
{
    const Span *span = f->span;
    memset(reach, 0xFF, sizeof *reach * (size_t)f->trees);
    for (int64_t u = 0; u < f->numbers; u++) {
        const Number number = f->number[u];
        for (int64_t c = number.column; c < number.column + number.columns; c++, span += number.bounds + 1) {
            const Span own = span[ranks[c]];
            for (int64_t i = own.begin; i < own.end; i++) reach[f->cut[i].tree] &= f->cut[i].kept;
        }
    }
    uint16_t left = 0;
    for (const Set *set = f->set; set < f->set + f->sets; set++) {
        left |= (uint16_t)ranks[set->column] & set->bound;
        if (!set->kept) continue;
        if (!left) reach[set->tree] &= set->kept;
        left = 0;
    }
    for (int64_t k = 0; k < f->classes; k++) {
        double sum = 0; /* not in memory: each addition would wait for a store and a load */
        for (int64_t t = k; t < f->trees; t += f->classes) {
            const int32_t leaf = f->tree[t].leaf;
            sum += f->leaf[leaf + f->order[leaf + __builtin_ctz(reach[t])]];
        }
        scores[k] = sum;
    }
}

/* Writes the raw score of one row for each class. Returns 0 if a value is infinite; -1 if none is; -2 if memory is
short. */
int64_t callsieve_forest_score(const Forest *f, const double *row, double *scores)
{
    for (int64_t i = 0; i < f->width; i++)
        if (is_infinite(row[i])) return 0;
    int16_t *ranks = malloc(sizeof *ranks * (size_t)(f->columns + 1 + f->trees));
    if (!ranks) return -2;
    rank(f, row, 1, 1, ranks);
    for (int64_t k = 0; k < f->classes; k++) scores[k] = 0;
    if (f->cut) score_by_index(f, ranks, (uint16_t *)(ranks + f->columns + 1), scores);
    else score_by_walks(f, ranks, scores);
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

/* One split of a tree: its nodes (a set of levels is a chain of several), children and feature, and the nearest split
above by the same feature. */
typedef struct { int32_t node, last, left, right, feature, above; } Split;
typedef struct { double at[POINTS]; } Line;
#define LINE APART _Pragma("GCC unroll 2") for (int i = 0; i < POINTS; i++)

/* Lists the splits of a tree, parents first; returns their number. */
INLINED int32_t list_splits(const Forest *f, Tree tree, Split *split)
{
    int32_t splits = 0;
    const Node *node = f->node + tree.node;
    for (int32_t n = 0; n < tree.nodes; n++) {
        const int32_t first = n;
        if (node[n].column >= f->numeric) /* the nodes of a chain have one left child, which no other node has */
            while (node[n].child[1] == n + 1 && node[n + 1].child[0] == node[n].child[0]) n++;
        const Split new = {first, n, node[n].child[0], node[n].child[1], f->source[node[n].column],
                           f->above[tree.node + first]};
        split[splits++] = new;
    }
    return splits;
}

/* Writes the way of a row at each split of a tree to `side[node]`. Bit 0: it goes right. Bit 1: it has left the path to
this node at a node of the same feature. Returns the first bits, of which the second follow: of at most 64 splits. */
INLINED uint64_t decide(const Forest *f, Tree tree, const Split *split, int32_t splits, const int16_t *ranks,
                        uint8_t *side)
{
    uint64_t bits = 0;
    const Node *node = f->node + tree.node;
    for (const Split *own = split; own < split + splits; own++) {
        const int32_t above = own->above;
        int right = goes_right(f, node + own->node, ranks[node[own->node].column]);
        for (int32_t n = own->node + 1; n <= own->last; n++) right &= goes_right(f, node + n, ranks[node[n].column]);
        const int left_path = above >= 0 && (side[above / 2] & 2 || (side[above / 2] & 1) != above % 2);
        side[own->node] = (uint8_t)(right | left_path << 1);
        bits = bits << 1 | (uint64_t)right;
    }
    return bits;
}

/* Writes the integral of each split at one set of points. The lines of a leaf ~c are at index c. */
INLINED void explain(const Forest *f, Tree tree, const double *point, const Split *split, int32_t splits,
                     const uint8_t *side, Line *restrict weight, Line *restrict g, Line *restrict rho,
                     Line *restrict mean, Line *restrict product)
{
    const double *t = point;
    memcpy(weight, point + POINTS, sizeof *weight);
    for (int32_t s = 0; s < splits; s++) {
        const Split now = split[s];
        const int right = side[now.node] & 1, left_path = side[now.node] >> 1;
        const double share = f->share[tree.node + now.node], before = f->before[tree.node + now.node];
        const double c = !left_path * (!right - share); /* without a branch, which would be mispredicted */
        const double *own = weight[now.node].at;
        double *to_left = weight[now.left].at, *to_right = weight[now.right].at, *edge = g[now.node].at;
        double *integral = rho[now.node].at;
        if (now.above < 0) /* no node above splits by the feature */
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
    for (int32_t s = splits - 1; s >= 0; s--) {
        const Split now = split[s];
        const double *left = mean[now.left].at, *right = mean[now.right].at;
        const double *edge = g[now.node].at, *integral = rho[now.node].at;
        double *result = product[s].at, *own = mean[now.node].at;
        LINE {
            const double gain = left[i] - right[i];
            result[i] = gain * integral[i];
            own[i] = right[i] + edge[i] * gain;
        }
    }
}

TWICE(callsieve_forest_scores, (const Forest *f, const double *rows, int64_t count, double *scores),
      score_rows, f, rows, count, scores)

/* Adds the integrals of splits to the sums of their features, from the last split to the first. */
INLINED void add(const Split *split, int32_t splits, const Line *restrict product, Line *restrict sums)
{
    while (splits--) {
        const double *own = product[splits].at;
        double *restrict sum = sums[split[splits].feature].at;
        LINE sum[i] += own[i];
    }
}

/* Writes the contributions of the features of rows to the score of each class, shape (count, classes, width). Returns
like `callsieve_forest_scores`. Rows that go the same ways in a tree share its integrals. */
INLINED int64_t explain_rows(const Forest *f, const double *rows, int64_t count, double *contributions)
{
    const int64_t most = f->most_nodes + 1, sums = f->classes * f->width;
    const int64_t side_by_side = count < EXPLAINED ? count : EXPLAINED;
    void *memory = malloc(LINE_BYTES + sizeof(Line) * (size_t)(side_by_side * (sums + SHARED) + 7 * most)
                          + sizeof(Split) * (size_t)most + sizeof(int16_t) * (size_t)(side_by_side * (f->columns + 1))
                          + (size_t)most);
    if (!memory) return -2;
    Line *lines = aligned(memory);
    Line *weight = lines + side_by_side * sums + most, *mean = weight + 2 * most, *g = mean + most, *rho = g + most;
    Line *product = rho + most, *shared = product + most;
    Split *split = (Split *)(shared + side_by_side * SHARED);
    int16_t *ranks = (int16_t *)(split + most);
    uint8_t *side = (uint8_t *)(ranks + side_by_side * (f->columns + 1));
    for (int64_t first = 0; first < count; first += EXPLAINED) {
        const int64_t rest = count - first < EXPLAINED ? count - first : EXPLAINED;
        for (int64_t i = first * f->width; i < (first + rest) * f->width; i++)
            if (is_infinite(rows[i])) {
                free(memory);
                return i / f->width;
            }
        for (int64_t i = 0; i < rest; i++) rank(f, rows + (first + i) * f->width, 1, 1, ranks + i * (f->columns + 1));
        memset(lines, 0, sizeof *lines * (size_t)(rest * sums));
        for (int64_t t = 0; t < f->trees; t++) {
            const Tree tree = f->tree[t];
            const int32_t splits = list_splits(f, tree, split), sets = f->rule[t].sets;
            const double *point = f->point + f->rule[t].first;
            uint64_t ways[EXPLAINED];
            int64_t different = 0;
            for (int64_t n = 0; tree.nodes && n < tree.leaves; n++) {
                const double leaf = f->leaf[tree.leaf + n];
                double *line = mean[~n].at;
                LINE line[i] = leaf;
            }
            for (int64_t i = 0; i < rest; i++) {
                Line *sum = lines + i * sums + t % f->classes * f->width;
                const uint64_t way = decide(f, tree, split, splits, ranks + i * (f->columns + 1), side);
                if (sets == 1 && splits <= SHARED) {
                    int64_t same = 0;
                    while (same < different && ways[same] != way) same++;
                    Line *own = shared + same * SHARED;
                    if (same == different) {
                        ways[different++] = way;
                        explain(f, tree, point, split, splits, side, weight, g, rho, mean, own);
                    }
                    add(split, splits, own, sum);
                } else
                    for (int32_t k = 0; k < sets; k++) {
                        explain(f, tree, point + k * 2 * POINTS, split, splits, side, weight, g, rho, mean, product);
                        add(split, splits, product, sum);
                    }
            }
        }
        for (int64_t i = 0; i < rest * sums; i++) {
            double *contribution = contributions + first * sums + i;
            *contribution = 0;
            for (int k = 0; k < POINTS; k++) *contribution += lines[i].at[k];
        }
    }
    free(memory);
    return -1;
}

TWICE(callsieve_forest_explain, (const Forest *f, const double *rows, int64_t count, double *contributions),
      explain_rows, f, rows, count, contributions)

/* Whether the packed node n of a tree tests more levels of the set that node n + 1 goes on with. */
INLINED int is_chained(const Forest *f, const Node *node, int32_t n)
{
    return node[n].column >= f->numeric && node[n].child[1] == n + 1 && node[n + 1].child[0] == node[n].child[0];
}

/* Returns the first tree of a file whose nodes are wrong; -1 if all are right; -2 if memory is short. Right is a tree in
which each node tests a column and one of its `limit[column]` ranks, comes after its parent, and is the child of one
node, as each leaf is. Counts are right already: the nodes and leaves of each tree, and the columns. */
int64_t callsieve_forest_check(const Forest *f, const int32_t *limit)
{
    uint8_t *named = malloc((size_t)f->most_nodes + UINT16_MAX);
    if (!named) return -2;
    int64_t t = 0;
    for (; t < f->trees; t++) {
        const Tree tree = f->tree[t];
        const Node *node = f->node + tree.node;
        int32_t n = 0, children = 0;
        memset(named, 0, (size_t)(tree.nodes + tree.leaves));
        for (; n < tree.nodes; n++) {
            if (node[n].column >= f->columns || node[n].bound >= limit[node[n].column]) break;
            int right = 1;
            for (int k = 0; k < 2; k++) {
                const int32_t child = node[n].child[k];
                right &= child < 0 ? ~child < tree.leaves : child > n && child < tree.nodes;
            }
            if (!right) break;
            for (int k = is_chained(f, node, n); k < 2; k++) {
                const int32_t child = node[n].child[k];
                right &= !named[child < 0 ? tree.nodes + ~child : child]++;
                children++;
            }
            if (!right) break;
        }
        if (n < tree.nodes || children != (tree.nodes ? tree.nodes - 1 : 0) + tree.leaves - !tree.nodes) break;
    }
    free(named);
    return t < f->trees ? t : -1;
}

/* Writes what explanations need, see `forest_paths.py`: `share`, `before` and `above` of each packed node, and the most
different features of a path of each tree. Returns -2 if memory is short. */
int64_t callsieve_forest_paths(const Forest *f, const int32_t *leaf_count, double *share, double *before, int32_t *above,
                               int32_t *features)
{
    typedef struct { int64_t count; int32_t end, edge, different; } Step;
    const size_t most = (size_t)f->most_nodes + 1;
    Step *step = malloc(sizeof *step * most);
    int32_t *splits = malloc(sizeof *splits * most); /* the first node of each split: a set of levels is a chain */
    if (!step || !splits) {
        free(step), free(splits);
        return -2;
    }
    for (int64_t t = 0; t < f->trees; t++) {
        const Tree tree = f->tree[t];
        const Node *node = f->node + tree.node;
        double *z = share + tree.node, *s = before + tree.node;
        int32_t *ups = above + tree.node, count = 0, most_features = 0;
        step[0].edge = -1;
        for (int32_t n = 0; n < tree.nodes; n++) {
            const int32_t first = n;
            splits[count++] = n;
            while (is_chained(f, node, n)) n++;
            step[first].end = n;
            if (node[n].child[0] >= 0) step[node[n].child[0]].edge = 2 * first;
            if (node[n].child[1] >= 0) step[node[n].child[1]].edge = 2 * first + 1;
        }
        for (int32_t i = count - 1; i >= 0; i--) {
            Step *own = step + splits[i];
            const int64_t left = node[own->end].child[0], right = node[own->end].child[1];
            const int64_t of_left = left < 0 ? leaf_count[tree.leaf + ~left] : step[left].count;
            own->count = of_left + (right < 0 ? leaf_count[tree.leaf + ~right] : step[right].count);
            z[splits[i]] = (double)of_left / (double)own->count;
        }
        for (int32_t i = 0; i < count; i++) {
            const int32_t n = splits[i];
            int32_t up = step[n].edge;
            step[n].different = 1 + (up >= 0 ? step[up / 2].different : 0);
            while (up >= 0 && f->source[node[up / 2].column] != f->source[node[n].column]) up = step[up / 2].edge;
            s[n] = up >= 0 ? s[up / 2] * (up % 2 ? 1 - z[up / 2] : z[up / 2]) : 1;
            step[n].different -= up >= 0;
            if (step[n].different > most_features) most_features = step[n].different;
            for (int32_t k = n; k <= step[n].end; k++) z[k] = z[n], s[k] = s[n], ups[k] = up;
        }
        features[t] = most_features;
    }
    free(step), free(splits);
    return -1;
}

#define MOST_INDEXED_NODES 64

/* Writes the index. The leaves of a tree have bits, those of the child that a split prefers before those of the other,
so that the first leaf that no split puts out of reach is the row's. The cuts of a column are those of splits that prefer
the right child, then those that prefer the left one, each by their bounds, so that those of a rank are side by side. A
split prefers the child that more training calls went to, or without `leaf_count` the one with more leaves. `span` has
room for a rank more than each column has bounds. Returns the number of sets; -1 if a tree is too large for an index; -2
if memory is short. */
int64_t callsieve_forest_cuts(const Forest *f, const int32_t *leaf_count, Cut *cut, Span *span, Set *set,
                               uint8_t *order)
{
    int64_t nodes = 0, spans = 0, sets = 0;
    for (int64_t t = 0; t < f->trees; t++) {
        nodes += f->tree[t].nodes;
        if (f->tree[t].leaves > 16 || f->tree[t].nodes > MOST_INDEXED_NODES || t > UINT16_MAX) return -1;
    }
    for (int64_t u = 0; u < f->numbers; u++) spans += f->number[u].columns * (f->number[u].bounds + 1);
    int32_t *first = malloc(sizeof *first * (size_t)(f->columns + 1)); /* span of each column */
    Cut *made = malloc(sizeof *made * (size_t)(nodes + 1));
    uint8_t *prefers_right = malloc((size_t)(nodes + 1));
    Span *next = malloc(sizeof *next * (size_t)(spans + 1));
    if (!first || !made || !prefers_right || !next) {
        free(first), free(made), free(prefers_right), free(next);
        return -2;
    }
    int32_t at = 0;
    for (int64_t u = 0; u < f->numbers; u++)
        for (int32_t c = 0; c < f->number[u].columns; c++, at += f->number[u].bounds + 1)
            first[f->number[u].column + c] = at;
    memset(span, 0, sizeof *span * (size_t)spans);
    for (int64_t t = 0; t < f->trees; t++) {
        const Tree tree = f->tree[t];
        const Node *node = f->node + tree.node;
        uint8_t *right = prefers_right + tree.node, place[16]; /* bit of a leaf */
        int64_t calls[MOST_INDEXED_NODES];
        uint32_t below[MOST_INDEXED_NODES]; /* leaves by their numbers */
        int32_t stack[MOST_INDEXED_NODES + 1], depth = 0, bit = 0;
        for (int32_t n = tree.nodes - 1; n >= 0; n--) {
            int64_t sum[2];
            below[n] = 0;
            for (int k = 0; k < 2; k++) {
                const int32_t child = node[n].child[k];
                sum[k] = child >= 0 ? calls[child] : leaf_count ? leaf_count[tree.leaf + ~child] : 1;
                below[n] |= child >= 0 ? below[child] : 1u << ~child;
            }
            calls[n] = sum[0] + sum[1];
            right[n] = node[n].column < f->numeric && sum[1] > sum[0];
        }
        for (stack[depth++] = tree.nodes ? 0 : -1; depth;) {
            const int32_t n = stack[--depth];
            if (n < 0) {
                place[~n] = (uint8_t)bit;
                order[tree.leaf + bit++] = (uint8_t)~n;
                continue;
            }
            stack[depth++] = node[n].child[!right[n]];
            if (!is_chained(f, node, n)) stack[depth++] = node[n].child[right[n]];
        }
        for (int32_t n = 0; n < tree.nodes; n++) {
            const int32_t preferred = node[n].child[right[n]];
            const uint32_t leaves = preferred >= 0 ? below[preferred] : 1u << ~preferred;
            uint32_t gone = 0;
            for (int l = 0; l < tree.leaves; l++) gone |= (leaves >> l & 1) << place[l];
            const Cut own = {(uint16_t)t, (uint16_t)~gone};
            made[tree.node + n] = own;
            if (node[n].column >= f->numeric) {
                const Set part = {node[n].column, node[n].bound, own.tree, is_chained(f, node, n) ? 0 : own.kept};
                set[sets++] = part;
                continue;
            }
            Span *counted = span + first[node[n].column] + node[n].bound + 1;
            if (right[n]) counted->begin++;
            else counted->end++;
        }
    }
    at = 0;
    Span *ranks = span;
    for (int64_t u = 0; u < f->numbers; u++)
        for (int32_t c = 0; c < f->number[u].columns; c++, ranks += f->number[u].bounds + 1) {
            const int32_t bounds = f->number[u].bounds;
            ranks[0].begin = at;
            for (int32_t r = 1; r <= bounds; r++) ranks[r].begin += ranks[r - 1].begin;
            ranks[0].end = ranks[bounds].begin;
            for (int32_t r = 1; r <= bounds; r++) ranks[r].end += ranks[r - 1].end;
            at = ranks[bounds].end;
        }
    memcpy(next, span, sizeof *next * (size_t)spans);
    for (int64_t n = 0; n < nodes; n++) {
        if (f->node[n].column >= f->numeric) continue;
        Span *own = next + first[f->node[n].column] + f->node[n].bound;
        cut[prefers_right[n] ? own->begin++ : own->end++] = made[n];
    }
    free(first), free(made), free(prefers_right), free(next);
    return sets;
}

const uint64_t callsieve_forest_version = FOREST_VERSION;
