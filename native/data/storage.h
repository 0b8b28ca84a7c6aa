#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "base/error.h"

namespace eigenscope {

// What keeps a run of bytes alive: a mapped file, a block of the heap, or a buffer of the caller.
class Storage {
 public:
  virtual ~Storage() = default;

  // Throws Error (DataMismatch) when the bytes can no longer be trusted.
  virtual void check() const {}

  // Memory of the heap that it holds.
  virtual int64_t heldBytes() const { return 0; }
};

// Bytes with their owner. `label` names them in messages: a path, or path and entry.
struct Bytes {
  std::string label;
  std::shared_ptr<const Storage> storage;
  std::span<const std::byte> span;

  std::size_t size() const { return span.size(); }
  const std::byte* data() const { return span.data(); }

  // The run of `count` bytes from `offset`, both already checked by the caller.
  Bytes sub(std::size_t offset, std::size_t count) const {
    return {label, storage, span.subspan(offset, count)};
  }

  // Throws Error (DataMismatch) "<label>: <message>".
  [[noreturn]] void fail(const std::string& message) const;
};

// Text of a file as messages may show it: control characters become '?'.
std::string printable(std::string text);

// Memory of the heap that is filled once and then shared; not initialised.
class HeapBlock : public Storage {
 public:
  // Throws Error (MemoryBudget) naming `label`.
  HeapBlock(std::size_t size, const std::string& label);
  ~HeapBlock() override;
  HeapBlock(const HeapBlock&) = delete;
  HeapBlock& operator=(const HeapBlock&) = delete;

  std::byte* data() { return data_; }
  std::size_t size() const { return size_; }
  int64_t heldBytes() const override { return static_cast<int64_t>(size_); }
  void resize(std::size_t size, const std::string& label);

 private:
  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

// A buffer that lives as long as `owner`, which may be null for static memory.
Bytes borrowBytes(std::string label, const void* data, std::size_t size,
                  std::shared_ptr<void> owner);

// A copy on the heap.
Bytes copyBytes(std::string label, const void* data, std::size_t size);

// Maps a whole file for reading. A file that is later truncated or rewritten in place is noticed
// by Storage::check, which callers ask before they touch the bytes. Throws Error (DataMismatch).
Bytes mapFile(const std::string& path);

}  // namespace eigenscope
