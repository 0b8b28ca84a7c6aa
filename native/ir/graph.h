#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace eigenscope {

using Id = int32_t;
using Shape = std::vector<int64_t>;
constexpr Id kNone = -1;

int64_t count(const Shape& shape);
std::string show(const Shape& shape);

// Real is float or double, chosen when the graph is compiled; Int is int32; Bool is one byte.
enum class Type : uint8_t { Real, Int, Bool };

// When a value is known, and how often it is computed.
//   Const      depends on nothing
//   Global     depends on parameters or on the direction, not on data: once a product
//   Local      depends on data: once a micro-batch
//   Collected  depends on a sum over all micro-batches: once a product, after them
enum class Scope : uint8_t { Const, Global, Local, Collected };

// The closed primitive set. Kind: L leaf, M movement, I indexing, W window, A elementwise,
// R reduction, B bilinear, N nonlinear along an axis, S staging.
// Derivative: how jvp treats it (see autodiff/): linear in all inputs, linear in the first input
// only, bilinear, own rule, or none (piecewise constant).
#define EIGENSCOPE_PRIMITIVES(X)                                                    \
  /* op           kind derivative */                                                \
  X(Param, L, None)   /* attr.ints = {parameter number} */                          \
  X(Tangent, L, None) /* direction of a parameter: {number}, K leading */           \
  X(Probe, L, None)   /* formal tangent, gone after transposition */                \
  X(Input, L, None)   /* attr.ints = {input slot}; Local */                         \
  X(Const, L, None)   /* constants[attr.ints[0]] */                                 \
  X(Reshape, M, Linear)                                                             \
  X(Permute, M, Linear)         /* ints = source axis of each axis */               \
  X(Broadcast, M, Linear)       /* size-1 axes to node.shape */                     \
  X(Slice, M, Linear)           /* ints = start..., step... ; node.shape = sizes */ \
  X(Unslice, M, Linear)         /* transpose of Slice: zeros elsewhere */           \
  X(Concat, M, Linear)          /* ints = {axis} */                                 \
  X(Gather, I, LinearFirst)     /* (x, index): ints = {axis} */                     \
  X(ScatterAdd, I, LinearFirst) /* (y, index): ints = {axis, rank of index} */      \
  X(WindowSum, W, Linear)       /* [..., H, W, C] channels last; window */          \
  X(WindowSpread, W, Linear)    /* transpose of WindowSum */                        \
  X(WindowArgmax, W, None)      /* Int flat index into x; the first maximum wins */ \
  X(Add, A, Linear)                                                                 \
  X(Sub, A, Linear)                                                                 \
  X(Neg, A, Linear)                                                                 \
  X(Select, A, Select) /* (mask, a, b); never multiplies by the mask */             \
  X(Mul, A, Bilinear)                                                               \
  X(Exp, A, Own)                                                                    \
  X(Log, A, Own)                                                                    \
  X(Sqrt, A, Own)                                                                   \
  X(Recip, A, Own)                                                                  \
  X(Pow, A, Own) /* x^p, p = attr.number */                                         \
  X(Tanh, A, Own)                                                                   \
  X(Sigmoid, A, Own)                                                                \
  X(Softplus, A, Own) /* log(1 + e^x) */                                            \
  X(Erf, A, Own)                                                                    \
  X(Sin, A, Own)                                                                    \
  X(Cos, A, Own)                                                                    \
  X(Atan, A, Own)                                                                   \
  X(Floor, A, None)                                                                 \
  X(Less, A, None) /* compare any types; gives Bool */                              \
  X(LessEqual, A, None)                                                             \
  X(Equal, A, None)                                                                 \
  X(And, A, None)                                                                   \
  X(Or, A, None)                                                                    \
  X(Not, A, None)                                                                   \
  X(Cast, A, None) /* to node.type; Real to Real does not occur */                  \
  X(StopGradient, A, None)                                                          \
  X(Barrier, A, Linear)      /* identity that no rewriting sees through */          \
  X(Sum, R, Linear)          /* ints = axes, kept with size 1 */                    \
  X(ReduceMax, R, None)      /* ints = axes, kept; only under StopGradient */       \
  X(Dot, B, Bilinear)        /* attr.labels "bi,oi->bo" */                          \
  X(Conv, B, Bilinear)       /* (x [B,H,W,C], w [O,kh,kw,C/g]) -> [B,H',W',O] */    \
  X(ConvInput, B, Bilinear)  /* (y, w) -> x: transpose of Conv in x */              \
  X(ConvWeight, B, Bilinear) /* (x, y) -> w: transpose of Conv in w */              \
  X(Softmax, N, Own)         /* last axis */                                        \
  X(LogSumExp, N, Own)       /* last axis, kept with size 1 */                      \
  X(Draw, N, None)           /* likelihood draws, see curvature/fisher */           \
  X(Spread, S, Linear)       /* Global to Local: every micro-batch sees it */       \
  X(Collect, S, Linear)      /* Local to Collected: sum over micro-batches */

enum class Op : uint8_t {
#define X(op, kind, derivative) op,
  EIGENSCOPE_PRIMITIVES(X)
#undef X
};

enum class Kind : uint8_t { L, M, I, W, A, R, B, N, S };
enum class Derivative : uint8_t { None, Linear, LinearFirst, Bilinear, Select, Own };

const char* name(Op op);
Kind kindOf(Op op);
Derivative derivativeOf(Op op);
inline bool isElementwise(Op op) { return kindOf(op) == Kind::A; }

// Two spatial axes, H then W; a 1-D window has kernel[0] = 1. `pad` is what lies before the first
// element; what follows the last is implied by the sizes.
struct Window {
  int64_t kernel[2] = {1, 1}, stride[2] = {1, 1}, dilation[2] = {1, 1}, pad[2] = {0, 0};
  int64_t groups = 1;
  bool operator==(const Window&) const = default;
};

struct Attr {
  std::vector<int64_t> ints = {};
  std::string labels = {};
  double number = 0;
  Window window = {};
};

struct Node {
  Op op;
  Type type;
  Scope scope;
  Shape shape;
  std::vector<Id> in;
  Attr attr;
};

// One value for all elements, or all of them in row-major order. Ints and Bools are held exactly.
using Values = std::shared_ptr<const std::vector<double>>;

// A graph of primitives in construction order, which is a topological order. Nodes are hash-consed,
// so equal subexpressions are one node. The constructors check shapes, simplify, and insert Spread
// where a Local operation takes a Global operand. Elementwise operands broadcast as in NumPy.
// Axes may be negative. Throws Error (Internal): shapes that users can get wrong are checked by
// the caller, who knows the names.
class Graph {
 public:
  // Leaves
  Id param(int64_t number, const Shape& shape);
  Id tangent(int64_t number, const Shape& shape);
  Id probe(int64_t number, const Shape& shape, Scope scope);
  Id input(int64_t slot, const Shape& shape, Type type);
  Id constant(Values values, const Shape& shape, Type type = Type::Real);
  Id scalar(double value, Type type = Type::Real);  // rank 0
  Id iota(int64_t n, Type type);                    // 0 .. n-1, shape [n]

  // Movement
  Id reshape(Id x, const Shape& shape);  // the exact target shape, no -1
  Id permute(Id x, const std::vector<int64_t>& perm);
  Id broadcast(Id x, const Shape& shape);  // NumPy rules; rank may grow
  Id slice(Id x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
           const Shape& sizes);
  Id unslice(Id x, const std::vector<int64_t>& start, const std::vector<int64_t>& step,
             const Shape& full);
  Id concat(const std::vector<Id>& xs, int64_t axis);

  // x [pre, n, post], index [m...] of Int -> [pre, m..., post]. Indices in [0, n).
  Id gather(Id x, Id index, int64_t axis);
  // Transpose of gather: y [pre, m..., post] -> [pre, n, post].
  Id scatterAdd(Id y, Id index, int64_t axis, int64_t n);

  // Channels last: x [..., H, W, C] -> [..., H', W', C] with spatial sizes `out`.
  Id windowSum(Id x, const Window& window, int64_t outH, int64_t outW);
  Id windowSpread(Id y, const Window& window, int64_t inH, int64_t inW);
  Id windowArgmax(Id x, const Window& window, int64_t outH, int64_t outW);

  // Elementwise
  Id unary(Op op, Id x);
  Id binary(Op op, Id a, Id b);
  Id select(Id mask, Id a, Id b);
  Id cast(Id x, Type type);
  Id pow(Id x, double exponent);
  Id add(Id a, Id b) { return binary(Op::Add, a, b); }
  Id sub(Id a, Id b) { return binary(Op::Sub, a, b); }
  Id mul(Id a, Id b) { return binary(Op::Mul, a, b); }
  Id div(Id a, Id b) { return mul(a, unary(Op::Recip, b)); }
  Id neg(Id x) { return unary(Op::Neg, x); }
  Id scale(Id x, double c) { return mul(x, scalar(c)); }
  Id shift(Id x, double c) { return add(x, scalar(c)); }
  Id max(Id a, Id b) { return select(binary(Op::Less, a, b), b, a); }  // ties: the first
  Id zerosLike(Id x);

  // Reductions keep their axes with size 1.
  Id sum(Id x, std::vector<int64_t> axes);
  Id sumAll(Id x);  // to rank 0
  Id reduceMax(Id x, std::vector<int64_t> axes);

  // Contraction "bi,oi->bo": a label in both operands and not in the result is summed. A label
  // stands in at least two of the three. Labels are single letters, 'K' is reserved.
  Id dot(Id a, Id b, std::string_view labels);
  // x [(K,) B, H, W, C], w [(K,) O, kh, kw, C/groups]; at most one of the two has K.
  Id conv(Id x, Id w, const Window& window, int64_t outH, int64_t outW);
  Id convInput(Id y, Id w, const Window& window, int64_t inH, int64_t inW);
  Id convWeight(Id x, Id y, const Window& window);  // kernel sizes from window

  Id softmax(Id x);    // last axis
  Id logSumExp(Id x);  // last axis, kept
  Id draw(std::vector<Id> in, const Attr& attr, const Shape& shape);

  Id spread(Id x);
  Id collect(Id x);

  // The same primitive on inputs that carry one more leading axis of size k (those marked in
  // `lead`); with k = 0 on inputs of the same shapes. Used by jvp; see autodiff/jvp.cc.
  Id withLead(const Node& node, const std::vector<Id>& in, const std::vector<bool>& lead,
              int64_t k);

  const Node& operator[](Id id) const { return nodes_[id]; }
  const Shape& shape(Id id) const { return nodes_[id].shape; }
  int64_t rank(Id id) const { return static_cast<int64_t>(nodes_[id].shape.size()); }
  Id size() const { return static_cast<Id>(nodes_.size()); }
  const Values& constantOf(Id id) const { return constants_[nodes_[id].attr.ints[0]]; }
  // True where every element is the same known number.
  bool isSplat(Id id, double value) const;

  std::string print(Id id) const;  // one line

 private:
  Id make(Op op, Type type, Shape shape, std::vector<Id> in, Attr attr = {});
  Id leaf(Op op, Type type, Scope scope, Shape shape, Attr attr);
  Id alignRank(Id x, size_t rank);
  Id withoutBroadcast(Id x, const Shape& result, const std::vector<Id>& others);

  std::vector<Node> nodes_;
  std::vector<Values> constants_;
  std::unordered_map<std::string, Id> known_;
};

// Every node that `outputs` need, in topological order.
std::vector<Id> reachable(const Graph& graph, const std::vector<Id>& outputs);

}  // namespace eigenscope
