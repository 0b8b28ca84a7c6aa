#pragma once

#include <algorithm>
#include <coroutine>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "spectral/ritz.h"

namespace eigenscope {

// What the solution of one right-hand side waits for: to = (A + shift I) from, or, with the
// preconditioner P, to = P from. Both have dim numbers.
struct Wanted {
  bool preconditioner;
  const double* from;
  double* to;
};

// The way of one right-hand side through a method, written as straight code that waits for each of
// its products by co_await; the products that all of them wait for become one block.
class Iteration {
 public:
  struct promise_type {
    Wanted wanted{};
    std::exception_ptr error;

    Iteration get_return_object() {
      return Iteration(std::coroutine_handle<promise_type>::from_promise(*this));
    }
    std::suspend_always initial_suspend() noexcept { return {}; }
    std::suspend_always final_suspend() noexcept { return {}; }
    std::suspend_always await_transform(Wanted next) noexcept {
      wanted = next;
      return {};
    }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { error = std::current_exception(); }
  };

  Iteration() = default;
  explicit Iteration(std::coroutine_handle<promise_type> handle) : handle_(handle) {}
  Iteration(Iteration&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Iteration& operator=(Iteration&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Iteration() {
    if (handle_) handle_.destroy();
  }

  // On to the next product or the end; throws what the method threw.
  void resume() {
    handle_.resume();
    if (handle_.promise().error) std::rethrow_exception(handle_.promise().error);
  }
  bool done() const { return handle_.done(); }
  const Wanted& wanted() const { return handle_.promise().wanted; }

 private:
  std::coroutine_handle<promise_type> handle_;
};

// What was asked of every right-hand side.
struct SystemTerms {
  double shift = 0;                          // (A + shift I) x = b
  LinearOperator* preconditioner = nullptr;  // symmetric positive definite, near the inverse
  double tol = 0;                            // ||b - (A + shift I) x|| <= tol ||b||
  double tikhonov = 0;                       // lsmr: adds tikhonov^2 ||x||^2 to the squares
  double step = 0;                           // neumann: its factor of the residual
  int64_t width = 16;                        // right-hand sides at work at a time
};

// How the work on a right-hand side ended.
enum class Ending { Converged, OutOfProducts, Noise, Hindered };

// One right-hand side, its solution so far, and when to stop. Vectors are in units of a power of
// two that brings b near length 1.
class Column {
 public:
  // `start` may be null: 0.
  Column(const SystemTerms& terms, Precision precision, int64_t dim, const double* b,
         const double* start);

  int64_t dim() const { return static_cast<int64_t>(x.size()); }
  bool preconditioned() const { return terms_.preconditioner != nullptr; }
  const SystemTerms& terms() const { return terms_; }
  double rounding() const { return roundingOf(precision_); }
  double lengthOfB() const { return lengthOfB_; }
  // In the units of the caller.
  double lengthOfRightHandSide() const { return lengthOfB_ / unit_; }
  // The products allowed are used up.
  bool stopping() const { return stopping_; }

  Wanted product(const std::vector<double>& from, std::vector<double>& to) const {
    return {false, from.data(), to.data()};
  }
  Wanted precondition(const std::vector<double>& from, std::vector<double>& to) const {
    return {true, from.data(), to.data()};
  }

  // For `measure`: the product with x, which is rounded to what the caller gets.
  Wanted fresh();
  bool needsFresh() const { return started_; }

  // r = b less the product that `fresh` gave; `residual` is its length relative to b.
  void measure();

  // After `measure`. True when this is done: it is `good`, or `error` falls no further, the method
  // is hindered, or the products are used up.
  bool judge(double error, bool good);
  bool judge() { return judge(residual, residual <= terms_.tol); }

  // The error falls no further when `patience` times in a row it was above `gain` times the least
  // so far.
  double gain = 0.5;
  int64_t patience = 2;

  // Whether it is time to measure the residual afresh: its recurrence, now of this length, has
  // passed tol or what rounding can resolve.
  bool small(double length);

  // ||A v|| = growth ||v||: a lower bound on the norm of A + shift I.
  void noteNorm(double growth) { norm_ = std::max(norm_, growth); }
  double norm() const { return norm_; }

  // Why the method cannot go on, for the next `judge`.
  void hinder(std::string reason) { hindered_ = std::move(reason); }

  // In the units of the caller.
  void solution(double* to) const;

  std::vector<double> x, r;
  int64_t iterations = 0;
  double residual = 1;     // relative to b, from a fresh product
  double optimality = -1;  // lsmr: the gradient of the squares, relative; where it was measured
  Ending ending = Ending::Converged;
  std::string hindrance;  // for Ending::Hindered

 private:
  friend class Columns;

  bool finish(Ending how);

  const SystemTerms& terms_;
  Precision precision_;
  std::vector<double> b_, y_, best_;
  double unit_ = 1, lengthOfB_ = 0, norm_ = 0;
  double estimate_ = 1, least_ = -1, leastResidual_ = -1, leastOptimality_ = -1;
  int64_t stalls_ = 0;
  bool started_ = false, stopping_ = false;
  std::string hindered_;
};

// Runs a method on many right-hand sides, `terms.width` of them at a time.
class Columns {
 public:
  using Method = Iteration (*)(Column&);

  // With the operator that `a` counts. `terms` must outlive this.
  Columns(ProductCounter& a, const SystemTerms& terms);

  // `make` gives a column when its turn comes, `settle` takes it when it is done.
  void run(Method method, int64_t count,
           const std::function<std::unique_ptr<Column>(int64_t)>& make,
           const std::function<void(int64_t, const Column&)>& settle);

  int64_t preconditionerProducts() const { return preconditionerProducts_; }

 private:
  struct Active {
    int64_t number;
    std::unique_ptr<Column> column;
    Iteration iteration;
  };
  void serve(bool preconditioner);
  template <class T>
  void multiply(bool preconditioner);

  ProductCounter& a_;
  const SystemTerms& terms_;
  std::vector<Active> active_;
  std::vector<const Wanted*> waiting_;
  std::vector<std::byte> in_, out_;
  int64_t preconditionerProducts_ = 0;
};

// Throws Error (Option) unless r^T P r = `value` is positive.
void requirePositive(double value, const std::vector<double>& r, const std::vector<double>& pr);

double dot(const std::vector<double>& x, const std::vector<double>& y);
double length(const std::vector<double>& x);
// y += factor x
void addTo(std::vector<double>& y, double factor, const std::vector<double>& x);

}  // namespace eigenscope
