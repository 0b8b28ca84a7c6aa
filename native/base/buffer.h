#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "base/error.h"

namespace eigenscope {

// Memory aligned to cache lines, not initialised.
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(int64_t bytes) : bytes_((bytes + 63) / 64 * 64) {
    if (bytes_ == 0) return;
    data_.reset(static_cast<std::byte*>(std::aligned_alloc(64, static_cast<size_t>(bytes_))));
    if (!data_)
      throw Error(ErrorKind::MemoryBudget, "could not get " + std::to_string(bytes_) +
                                               " bytes of memory: use a smaller " +
                                               "--batch or fewer --threads");
  }

  std::byte* data() const { return data_.get(); }
  int64_t bytes() const { return bytes_; }
  template <class T>
  T* as() const {
    return reinterpret_cast<T*>(data_.get());
  }

 private:
  struct Free {
    void operator()(std::byte* p) const { std::free(p); }
  };
  std::unique_ptr<std::byte, Free> data_;
  int64_t bytes_ = 0;
};

}  // namespace eigenscope
