#include "run/elementwise.h"

#include <iterator>
#include <string>

#include "base/error.h"

// glibc's vector mathematics (libmvec, at most 4 ulp): declared here so that the vectoriser finds
// the variants without -ffast-math.
extern "C" {
#define VECTOR __attribute__((simd("notinbranch"), const, nothrow))
VECTOR float expf(float);
VECTOR float logf(float);
VECTOR float powf(float, float);
VECTOR float tanhf(float);
VECTOR float erff(float);
VECTOR float sinf(float);
VECTOR float cosf(float);
VECTOR float atanf(float);
VECTOR float log1pf(float);
VECTOR double exp(double);
VECTOR double log(double);
VECTOR double pow(double, double);
VECTOR double tanh(double);
VECTOR double erf(double);
VECTOR double sin(double);
VECTOR double cos(double);
VECTOR double atan(double);
VECTOR double log1p(double);
#undef VECTOR
}

namespace eigenscope {

namespace {

inline float vexp(float x) { return ::expf(x); }
inline double vexp(double x) { return ::exp(x); }
inline float vlog(float x) { return ::logf(x); }
inline double vlog(double x) { return ::log(x); }
inline float vlog1p(float x) { return ::log1pf(x); }
inline double vlog1p(double x) { return ::log1p(x); }
inline float vpow(float x, float p) { return ::powf(x, p); }
inline double vpow(double x, double p) { return ::pow(x, p); }
inline float vtanh(float x) { return ::tanhf(x); }
inline double vtanh(double x) { return ::tanh(x); }
inline float verf(float x) { return ::erff(x); }
inline double verf(double x) { return ::erf(x); }
inline float vsin(float x) { return ::sinf(x); }
inline double vsin(double x) { return ::sin(x); }
inline float vcos(float x) { return ::cosf(x); }
inline double vcos(double x) { return ::cos(x); }
inline float vatan(float x) { return ::atanf(x); }
inline double vatan(double x) { return ::atan(x); }
inline float vsqrt(float x) { return __builtin_sqrtf(x); }
inline double vsqrt(double x) { return __builtin_sqrt(x); }
inline float vfloor(float x) { return __builtin_floorf(x); }
inline double vfloor(double x) { return __builtin_floor(x); }
inline float vtrunc(float x) { return __builtin_truncf(x); }
inline double vtrunc(double x) { return __builtin_trunc(x); }
inline float vabs(float x) { return __builtin_fabsf(x); }
inline double vabs(double x) { return __builtin_fabs(x); }

// One row an operation: name and value in terms of x, y, z (elements) and p (the attribute).
#define OPERATIONS(X)                                   \
  X(Add, x + y)                                         \
  X(Sub, x - y)                                         \
  X(Neg, -x)                                            \
  X(Select, x != 0 ? y : z)                             \
  X(Mul, x* y)                                          \
  X(Exp, vexp(x))                                       \
  X(Log, vlog(x))                                       \
  X(Sqrt, vsqrt(x))                                     \
  X(Recip, 1 / x)                                       \
  X(Pow, vpow(x, p))                                    \
  X(Tanh, vtanh(x))                                     \
  X(Sigmoid, 1 / (1 + vexp(-x)))                        \
  X(Softplus, (x > 0 ? x : 0) + vlog1p(vexp(-vabs(x)))) \
  X(Erf, verf(x))                                       \
  X(Sin, vsin(x))                                       \
  X(Cos, vcos(x))                                       \
  X(Atan, vatan(x))                                     \
  X(Floor, vfloor(x))                                   \
  X(Less, static_cast<T>(x < y))                        \
  X(LessEqual, static_cast<T>(x <= y))                  \
  X(Equal, static_cast<T>(x == y))                      \
  X(And, static_cast<T>((x != 0) & (y != 0)))           \
  X(Or, static_cast<T>((x != 0) | (y != 0)))            \
  X(Not, static_cast<T>(x == 0))                        \
  X(CastBool, static_cast<T>(x != 0))                   \
  X(CastInt, vtrunc(x))                                 \
  X(Copy, x)

#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))

// Operands that an operation does not use point at some tile all the same, so loading is harmless.
#define DEFINE_FOR(Name, type, value)                                                    \
  CLONES void type##Name([[maybe_unused]] const type* a, [[maybe_unused]] const type* b, \
                         [[maybe_unused]] const type* c, type* r, int64_t n,             \
                         [[maybe_unused]] double number) {                               \
    using T = type;                                                                      \
    [[maybe_unused]] const T p = static_cast<T>(number);                                 \
    _Pragma("GCC ivdep") for (int64_t i = 0; i < n; ++i) {                               \
      [[maybe_unused]] const T x = a[i], y = b[i], z = c[i];                             \
      r[i] = value;                                                                      \
    }                                                                                    \
  }
#define DEFINE(Name, value)      \
  DEFINE_FOR(Name, float, value) \
  DEFINE_FOR(Name, double, value)
OPERATIONS(DEFINE)
#undef DEFINE
#undef DEFINE_FOR

// The rows' names; those of primitives are the same, casts have one each.
constexpr const char* kNames[] = {
#define X(Name, value) #Name,
    OPERATIONS(X)
#undef X
};

const TileOperation<float> kFloat[] = {
#define X(Name, value) float##Name,
    OPERATIONS(X)
#undef X
};
const TileOperation<double> kDouble[] = {
#define X(Name, value) double##Name,
    OPERATIONS(X)
#undef X
};

size_t rowOf(Op op, Type type) {
  std::string wanted = name(op);
  if (op == Op::Cast)
    wanted = type == Type::Bool ? "CastBool" : type == Type::Int ? "CastInt" : "Copy";
  for (size_t row = 0; row < std::size(kNames); ++row)
    if (wanted == kNames[row]) return row;
  throw Error(ErrorKind::Internal, wanted + " is not elementwise");
}

}  // namespace

template <>
TileOperation<float> tileOperation<float>(Op op, Type type) {
  return kFloat[rowOf(op, type)];
}

template <>
TileOperation<double> tileOperation<double>(Op op, Type type) {
  return kDouble[rowOf(op, type)];
}

}  // namespace eigenscope
