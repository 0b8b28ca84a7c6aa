#pragma once

#include <cstdint>
#include <map>

namespace eigenscope {

// Offsets of buffers that come and go, first fit; all sizes are rounded up to cache lines.
class Arena {
 public:
  static constexpr int64_t kAlign = 64;

  static int64_t rounded(int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; }

  int64_t take(int64_t bytes) {
    bytes = rounded(bytes);
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (it->second < bytes) continue;
      int64_t offset = it->first, left = it->second - bytes;
      free_.erase(it);
      if (left) free_[offset + bytes] = left;
      return offset;
    }
    int64_t offset = top_;
    // A free run at the end grows instead of being skipped.
    if (!free_.empty() && free_.rbegin()->first + free_.rbegin()->second == top_) {
      offset = free_.rbegin()->first;
      free_.erase(std::prev(free_.end()));
    }
    top_ = offset + bytes;
    return offset;
  }

  void give(int64_t offset, int64_t bytes) {
    bytes = rounded(bytes);
    if (bytes == 0) return;
    auto at = free_.emplace(offset, bytes).first;
    auto next = std::next(at);
    if (next != free_.end() && at->first + at->second == next->first) {
      at->second += next->second;
      free_.erase(next);
    }
    if (at != free_.begin()) {
      auto before = std::prev(at);
      if (before->first + before->second == at->first) {
        before->second += at->second;
        free_.erase(at);
      }
    }
  }

  int64_t size() const { return top_; }

 private:
  std::map<int64_t, int64_t> free_;  // offset -> bytes
  int64_t top_ = 0;
};

}  // namespace eigenscope
