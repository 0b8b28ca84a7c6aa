#pragma once

#include <stdexcept>
#include <string>

namespace eigenscope {

// Each kind becomes one typed error class in TypeScript (lib/errors.ts).
enum class ErrorKind {
  Internal,
  Option,
  ModelFormat,
  UnsupportedOperator,
  DataMismatch,
  MemoryBudget,
  NotConverged,
  Abort,
};

// The message says what was expected, for which name, what came, and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  const ErrorKind kind;
};

}  // namespace eigenscope
