#include "data/inflate.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>

namespace eigenscope {

namespace {

// No deflate stream grows by more than this, so a larger claim is damage, not worth the memory.
constexpr std::size_t kMostGrowth = 1032;

class Inflater {
 public:
  Inflater(const Bytes& in, int windowBits) : in_(in) {
    if (inflateInit2(&stream_, windowBits) != Z_OK)
      throw Error(ErrorKind::MemoryBudget, in.label + ": no memory for decompression");
  }
  ~Inflater() { inflateEnd(&stream_); }
  Inflater(const Inflater&) = delete;
  Inflater& operator=(const Inflater&) = delete;

  // Inflates into out[from, size) until it is full or the stream ends; returns where it got to.
  std::size_t into(std::byte* out, std::size_t from, std::size_t size) {
    // zlib counts in 32 bits.
    constexpr std::size_t kStep = std::numeric_limits<uInt>::max() / 2;
    // zlib may need a call with no room left to see the end of the stream.
    std::byte spare;
    do {
      const std::size_t room = std::min(size - from, kStep);
      const std::size_t feed = std::min(in_.size() - read_, kStep);
      stream_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(in_.data() + read_));
      stream_.avail_in = static_cast<uInt>(feed);
      stream_.next_out = reinterpret_cast<Bytef*>(room > 0 ? out + from : &spare);
      stream_.avail_out = static_cast<uInt>(room);
      const int code = inflate(&stream_, Z_NO_FLUSH);
      const std::size_t took = feed - stream_.avail_in, gave = room - stream_.avail_out;
      read_ += took;
      from += gave;
      ended_ = code == Z_STREAM_END;
      if (code == Z_BUF_ERROR && room > 0 && read_ == in_.size())
        in_.fail("truncated within its compressed data");
      if (code != Z_OK && code != Z_STREAM_END && code != Z_BUF_ERROR)
        in_.fail(std::string("its compressed data are damaged") +
                 (stream_.msg != nullptr ? std::string(": ") + stream_.msg : ""));
      if (took == 0 && gave == 0) break;
    } while (!ended_);
    return from;
  }

  bool ended() const { return ended_; }
  std::size_t left() const { return in_.size() - read_; }
  void nextMember() {
    inflateReset(&stream_);
    ended_ = false;
  }

 private:
  const Bytes& in_;
  z_stream stream_{};
  std::size_t read_ = 0;
  bool ended_ = false;
};

Bytes shared(const Bytes& from, std::shared_ptr<HeapBlock> block) {
  std::span<const std::byte> span(block->data(), block->size());
  return {from.label, std::move(block), span};
}

}  // namespace

Bytes inflateRaw(const Bytes& compressed, std::size_t size) {
  if (size / kMostGrowth > compressed.size())
    compressed.fail("its " + std::to_string(compressed.size()) +
                    " compressed bytes cannot hold the " + std::to_string(size) + " expected");
  auto block = std::make_shared<HeapBlock>(size, compressed.label);
  Inflater inflater(compressed, -MAX_WBITS);
  const std::size_t got = inflater.into(block->data(), 0, size);
  if (!inflater.ended() || got != size || inflater.left() != 0)
    compressed.fail("expected its compressed data to hold " + std::to_string(size) +
                    " bytes, got " + (inflater.ended() ? std::to_string(got) : "more"));
  return shared(compressed, std::move(block));
}

Bytes gunzip(const Bytes& compressed) {
  constexpr std::size_t kLeast = std::size_t{1} << 16;
  // The last four bytes hint at the size, modulo 2^32 and for the last member only.
  std::size_t guess = compressed.size() * 2;
  if (compressed.size() >= 18) {
    uint32_t tail;
    std::memcpy(&tail, compressed.data() + compressed.size() - 4, 4);
    if (tail / kMostGrowth <= compressed.size()) guess = std::max<std::size_t>(guess, tail);
  }
  auto block = std::make_shared<HeapBlock>(std::max(guess, kLeast), compressed.label);
  Inflater inflater(compressed, MAX_WBITS + 16);
  std::size_t size = 0;
  for (;;) {
    size = inflater.into(block->data(), size, block->size());
    if (!inflater.ended())
      block->resize(block->size() * 2, compressed.label);
    else if (inflater.left() == 0)
      break;
    else
      inflater.nextMember();
  }
  block->resize(size, compressed.label);
  return shared(compressed, std::move(block));
}

uint32_t checksumOf(const Bytes& bytes) {
  return static_cast<uint32_t>(
      crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

}  // namespace eigenscope
