#include "spectral/checkpoint.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <fstream>
#include <string>

#include "linalg/blas.h"
#include "spectral/sketch.h"

namespace eigenscope {

namespace {

constexpr char kMagic[8] = {'e', 'i', 'g', 'e', 'n', 's', 'c', '1'};

// What must agree between the solve that wrote and the one that reads, with names for messages.
struct Identity {
  const char* name;
  int64_t value;
};
std::vector<Identity> identityOf(const EigshPlan& plan) {
  return {{"dimension", plan.dim},
          {"precision (bytes a number)", int64_t(bytesOf(plan.precision))},
          {"which (LM, LA, SA, BE from 0)", int64_t(plan.options.which)},
          {"k", plan.options.k},
          {"method (by its place in the list)", int64_t(plan.options.method)},
          {"block size", plan.block},
          {"basis size", plan.basis},
          {"seed", int64_t(plan.options.seed)}};
}

uint64_t checksum(const std::string& bytes) {  // FNV-1a
  uint64_t hash = 14695981039346656037ull;
  for (unsigned char byte : bytes) hash = (hash ^ byte) * 1099511628211ull;
  return hash;
}

template <class T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}
void put(std::string& out, const std::vector<double>& values) {
  put(out, int64_t(values.size()));
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
}

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::Option, "resume: " + path + ": " + what);
}

class Reader {
 public:
  Reader(const std::string& path) : path_(path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) refuse(path, std::string("cannot be read: ") + std::strerror(errno));
    bytes_.assign(std::istreambuf_iterator<char>(file), {});
    if (bytes_.size() < sizeof kMagic + 8 || std::memcmp(bytes_.data(), kMagic, sizeof kMagic) != 0)
      refuse(path, "expected a checkpoint of eigsh, got a file of another kind");
    uint64_t stored = 0;
    std::memcpy(&stored, bytes_.data() + bytes_.size() - 8, 8);
    bytes_.resize(bytes_.size() - 8);
    if (stored != checksum(bytes_)) damaged();
    at_ = sizeof kMagic;
  }

  void take(void* out, std::size_t size) {
    if (size > bytes_.size() - at_) damaged();
    std::memcpy(out, bytes_.data() + at_, size);
    at_ += size;
  }
  template <class T>
  T one() {
    T value;
    take(&value, sizeof value);
    return value;
  }
  std::vector<double> list() {
    const auto size = one<uint64_t>();
    if (size > (bytes_.size() - at_) / sizeof(double)) damaged();
    std::vector<double> values(size);
    take(values.data(), size * sizeof(double));
    return values;
  }
  [[noreturn]] void damaged() const { refuse(path_, "the checkpoint is damaged"); }

 private:
  std::string path_, bytes_;
  std::size_t at_ = 0;
};

Reader openCheckpoint(const EigshPlan& plan) {
  const std::string& path = plan.options.resume;
  Reader in(path);
  for (const Identity& wanted : identityOf(plan)) {
    const auto value = in.one<int64_t>();
    if (value != wanted.value)
      refuse(path, std::string("the checkpoint belongs to another solve: its ") + wanted.name +
                       " is " + std::to_string(value) + ", this one's " +
                       std::to_string(wanted.value));
  }
  return in;
}

[[noreturn]] void cannotWrite(const std::string& path, const std::string& temporary) {
  const std::string why = std::strerror(errno);
  if (!temporary.empty()) ::unlink(temporary.c_str());
  throw Error(ErrorKind::Option, "checkpoint: " + path + " cannot be written: " + why);
}

}  // namespace

void writeCheckpoint(const EigshPlan& plan, const SolverState& state, const Basis& basis) {
  const std::string& path = plan.options.checkpoint;
  if (path.empty()) return;
  std::string out(kMagic, sizeof kMagic);
  for (const Identity& part : identityOf(plan)) put(out, part.value);
  for (int64_t x : {state.products, state.restarts, state.active, state.next}) put(out, x);
  put(out, state.randomColumn);
  for (double x : {state.scale, state.target, state.before, state.productNorm}) put(out, x);
  put(out, state.values);
  put(out, state.coupling);
  out.append(static_cast<const char*>(basis.column(0)),
             (state.active + state.next) * plan.dim * bytesOf(plan.precision));
  put(out, checksum(out));

  const std::string temporary = path + "." + std::to_string(::getpid()) + ".tmp";
  const int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (file < 0) cannotWrite(path, "");
  for (std::size_t done = 0; done < out.size();) {
    const ssize_t wrote = ::write(file, out.data() + done, out.size() - done);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) {
      ::close(file);
      cannotWrite(path, temporary);
    }
    done += wrote;
  }
  const bool synced = ::fsync(file) == 0;
  if (::close(file) != 0 || !synced || ::rename(temporary.c_str(), path.c_str()) != 0)
    cannotWrite(path, temporary);
}

bool readCheckpoint(const EigshPlan& plan, SolverState& state, Basis& basis) {
  if (plan.options.resume.empty()) return false;
  Reader in = openCheckpoint(plan);
  for (int64_t* x : {&state.products, &state.restarts, &state.active, &state.next})
    *x = in.one<int64_t>();
  state.randomColumn = in.one<uint64_t>();
  for (double* x : {&state.scale, &state.target, &state.before, &state.productNorm})
    *x = in.one<double>();
  state.values = in.list();
  state.coupling = in.list();
  const int64_t columns = state.active + state.next;
  if (state.active < 0 || state.next < 0 || columns > basis.capacity() ||
      int64_t(state.values.size()) != state.active)
    in.damaged();
  in.take(basis.column(0), columns * plan.dim * bytesOf(plan.precision));
  const int64_t least = state.products + plan.options.k + state.next + 1;
  if (plan.options.maxProducts < least)
    throw Error(ErrorKind::Option, "maxProducts counts the " + std::to_string(state.products) +
                                       " products before the checkpoint too; it must be at least " +
                                       std::to_string(least) + " here, got " +
                                       std::to_string(plan.options.maxProducts));
  return true;
}

void requireCheckpoint(const EigshPlan& plan) { openCheckpoint(plan); }

void requireSameRecurrence(const EigshPlan& plan, const SolverState& state, const Basis& basis,
                           ProductCounter& a) {
  if (state.active == 0) return;
  // ||A v - theta v|| of the first vector is the length of its coupling to the next block.
  Basis product(plan.dim, 1, plan.precision);
  a.apply(basis.column(0), product.column(0), 1);
  const double measured = residualOf(basis, 0, product, 0, state.values[0]);
  const double expected = norm2(state.next, state.coupling.data());
  const double slack = (plan.precision == Precision::F32 ? 1e-3 : 1e-7) * state.scale;
  if (std::abs(measured - expected) > slack)
    refuse(plan.options.resume,
           "the checkpoint belongs to another operator: the residual of its first vector is " +
               shortNumber(measured) + " here, " + shortNumber(expected) + " there");
}

}  // namespace eigenscope
