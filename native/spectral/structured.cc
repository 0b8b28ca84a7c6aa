#include "spectral/structured.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "base/error.h"
#include "run/pool.h"

namespace eigenscope {

StructuredOperator::StructuredOperator(std::vector<Entry> entries, int64_t dim, Precision precision,
                                       std::vector<int64_t> index, int threads)
    : entries_(std::move(entries)),
      dim_(dim),
      precision_(precision),
      index_(std::move(index)),
      threads_(std::max(1, threads)) {
  std::vector<char> taken(static_cast<size_t>(dim), 0);
  int64_t covered = 0;
  for (const Entry& entry : entries_) {
    if (static_cast<int64_t>(entry.coordinates.size()) != entry.block->size())
      throw Error(ErrorKind::Internal,
                  "the block of " + entry.name + " has " + std::to_string(entry.block->size()) +
                      " rows for " + std::to_string(entry.coordinates.size()) + " coordinates");
    for (int64_t c : entry.coordinates) {
      if (c < 0 || c >= dim || taken[static_cast<size_t>(c)])
        throw Error(ErrorKind::Option, "blocks: the block of " + entry.name + " has coordinate " +
                                           std::to_string(c) + " twice, or it does not exist");
      taken[static_cast<size_t>(c)] = 1;
      ++covered;
    }
  }
  if (covered != dim)
    throw Error(ErrorKind::Option, "blocks: they leave " + std::to_string(dim - covered) + " of " +
                                       std::to_string(dim) + " coordinates out");
}

int64_t StructuredOperator::heldBytes() const {
  int64_t bytes = 0;
  for (const Entry& entry : entries_)
    bytes +=
        entry.block->bytes() + static_cast<int64_t>(entry.coordinates.size() * sizeof(int64_t));
  return bytes;
}

template <class T>
void StructuredOperator::applyAs(const T* x, T* y, int64_t count, Task& task) {
  // A block times a vector is one piece of work, whoever does it.
  const auto blocks = static_cast<int64_t>(entries_.size());
  parallel(threads_, blocks * count, [&](int, int64_t item) {
    task.check();
    const Entry& entry = entries_[static_cast<size_t>(item % blocks)];
    const T* from = x + item / blocks * dim_;
    T* to = y + item / blocks * dim_;
    std::vector<double> in(entry.coordinates.size()), out(in.size());
    for (size_t i = 0; i < in.size(); ++i) in[i] = static_cast<double>(from[entry.coordinates[i]]);
    entry.block->apply(in.data(), out.data());
    for (size_t i = 0; i < in.size(); ++i) to[entry.coordinates[i]] = static_cast<T>(out[i]);
  });
}

void StructuredOperator::apply(const void* x, void* y, int64_t count, Task& task) {
  if (precision_ == Precision::F32)
    applyAs(static_cast<const float*>(x), static_cast<float*>(y), count, task);
  else
    applyAs(static_cast<const double*>(x), static_cast<double*>(y), count, task);
}

double StructuredOperator::trace() const {
  double sum = 0;
  for (const Entry& entry : entries_) sum += entry.block->trace();
  return sum;
}

double StructuredOperator::frobenius() const {
  double sum = 0;
  for (const Entry& entry : entries_) sum += entry.block->squares();
  return std::sqrt(sum);
}

std::vector<std::vector<double>> StructuredOperator::eigenvalues(Task& task) const {
  std::vector<std::vector<double>> all(entries_.size());
  parallel(threads_, static_cast<int64_t>(entries_.size()), [&](int, int64_t i) {
    task.check();
    auto& values = all[static_cast<size_t>(i)];
    values = entries_[static_cast<size_t>(i)].block->eigenvalues();
    std::sort(values.begin(), values.end(), std::greater<>());
  });
  return all;
}

StructuredOperator::Determinant StructuredOperator::determinant(double damping, Task& task) const {
  Determinant determinant;
  for (const auto& values : eigenvalues(task))
    for (double value : values) {
      const double shifted = value + damping;
      if (shifted < 0) determinant.sign = -determinant.sign;
      if (shifted == 0) return {0, -std::numeric_limits<double>::infinity()};
      determinant.logAbs += std::log(std::abs(shifted));
    }
  return determinant;
}

std::shared_ptr<StructuredOperator> StructuredOperator::inverse(double damping, Damping how,
                                                                Task& task) const {
  std::vector<Entry> entries = entries_;
  parallel(threads_, static_cast<int64_t>(entries.size()), [&](int, int64_t i) {
    task.check();
    Entry& entry = entries[static_cast<size_t>(i)];
    entry.block = entry.block->inverse(damping, how, entry.name);
  });
  return std::make_shared<StructuredOperator>(std::move(entries), dim_, precision_, index_,
                                              threads_);
}

}  // namespace eigenscope
