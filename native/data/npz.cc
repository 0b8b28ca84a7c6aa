// .npz: a zip archive of .npy files. Stored entries stay where they are in the mapped file;
// deflated ones are inflated once. The central directory is what counts; local headers only tell
// where an entry's data begin.
#include <algorithm>
#include <cstdio>
#include <limits>

#include "data/formats.h"
#include "data/inflate.h"

namespace eigenscope {

namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50,
                   kEnd64 = 0x06064b50, kLocator64 = 0x07064b50;
constexpr std::size_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56,
                      kLocator64Size = 20;
constexpr uint32_t kIn64 = std::numeric_limits<uint32_t>::max();
constexpr uint16_t kStored = 0, kDeflated = 8, kEncrypted = 1;

struct Entry {
  std::string name;
  uint16_t flags, method;
  uint32_t checksum;
  uint64_t compressed, size, offset;
};

struct Directory {
  uint64_t entries, size, offset;
};

std::size_t findEnd(const Bytes& bytes) {
  if (bytes.size() >= kEndSize) {
    const std::size_t last = bytes.size() - kEndSize;
    const std::size_t first = last > 0xffff ? last - 0xffff : 0;  // the comment's longest
    for (std::size_t at = last + 1; at-- > first;)
      if (littleEndian<uint32_t>(bytes, at) == kEnd) return at;
  }
  bytes.fail("truncated: expected a zip directory at the end of the .npz file, found none");
}

Directory findDirectory(const Bytes& bytes) {
  const std::size_t end = findEnd(bytes);
  Directory directory{littleEndian<uint16_t>(bytes, end + 10),
                      littleEndian<uint32_t>(bytes, end + 12),
                      littleEndian<uint32_t>(bytes, end + 16)};
  if (directory.entries == 0xffff || directory.size == kIn64 || directory.offset == kIn64) {
    if (end < kLocator64Size || littleEndian<uint32_t>(bytes, end - kLocator64Size) != kLocator64)
      bytes.fail("malformed zip: expected a zip64 directory, found none");
    const uint64_t at = littleEndian<uint64_t>(bytes, end - kLocator64Size + 8);
    if (at > bytes.size() || bytes.size() - at < kEnd64Size ||
        littleEndian<uint32_t>(bytes, at) != kEnd64)
      bytes.fail("malformed zip: expected the zip64 directory at offset " + std::to_string(at));
    directory = {littleEndian<uint64_t>(bytes, at + 32), littleEndian<uint64_t>(bytes, at + 40),
                 littleEndian<uint64_t>(bytes, at + 48)};
  }
  if (directory.offset > bytes.size() || directory.size > bytes.size() - directory.offset)
    bytes.fail("malformed zip: expected the directory's " + std::to_string(directory.size) +
               " bytes at offset " + std::to_string(directory.offset) + ", but the file has " +
               std::to_string(bytes.size()));
  return directory;
}

// Fields of 32 bits that are full are found in an extra field, in this order.
void readExtra64(const Bytes& bytes, std::size_t at, std::size_t length, Entry& entry) {
  const std::size_t end = at + length;
  while (end - at >= 4) {
    const uint16_t id = littleEndian<uint16_t>(bytes, at);
    const std::size_t size = littleEndian<uint16_t>(bytes, at + 2);
    at += 4;
    if (size > end - at) break;
    if (id == 1) {
      std::size_t from = at, stop = at + size;
      for (uint64_t* field : {&entry.size, &entry.compressed, &entry.offset}) {
        if (*field != kIn64) continue;
        if (stop - from < 8) bytes.fail(entry.name + ": malformed zip64 field");
        *field = littleEndian<uint64_t>(bytes, from);
        from += 8;
      }
      return;
    }
    at += size;
  }
}

std::vector<Entry> readDirectory(const Bytes& bytes) {
  const Directory directory = findDirectory(bytes);
  std::vector<Entry> entries;
  std::size_t at = directory.offset;
  const std::size_t end = directory.offset + directory.size;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (end - at < kCentralSize || littleEndian<uint32_t>(bytes, at) != kCentral)
      bytes.fail("malformed zip: expected " + std::to_string(directory.entries) +
                 " entries in the directory, found " + std::to_string(i));
    const std::size_t name = littleEndian<uint16_t>(bytes, at + 28),
                      extra = littleEndian<uint16_t>(bytes, at + 30),
                      comment = littleEndian<uint16_t>(bytes, at + 32);
    if (end - at - kCentralSize < name + extra + comment)
      bytes.fail("malformed zip: entry " + std::to_string(i) + " runs over the directory's end");
    Entry entry{std::string(textAt(bytes, at + kCentralSize, name)),
                littleEndian<uint16_t>(bytes, at + 8),
                littleEndian<uint16_t>(bytes, at + 10),
                littleEndian<uint32_t>(bytes, at + 16),
                littleEndian<uint32_t>(bytes, at + 20),
                littleEndian<uint32_t>(bytes, at + 24),
                littleEndian<uint32_t>(bytes, at + 42)};
    readExtra64(bytes, at + kCentralSize + name, extra, entry);
    entries.push_back(std::move(entry));
    at += kCentralSize + name + extra + comment;
  }
  return entries;
}

// The entry's contents, checked against its checksum.
Bytes contentsOf(const Bytes& bytes, const Entry& entry) {
  const auto refuse = [&](const std::string& what) { bytes.fail(entry.name + ": " + what); };
  if ((entry.flags & kEncrypted) != 0) refuse("is encrypted; save it without a password");
  if (entry.offset > bytes.size() || bytes.size() - entry.offset < kLocalSize ||
      littleEndian<uint32_t>(bytes, entry.offset) != kLocal)
    refuse("malformed zip: expected it at offset " + std::to_string(entry.offset));
  const std::size_t start = entry.offset + kLocalSize +
                            littleEndian<uint16_t>(bytes, entry.offset + 26) +
                            littleEndian<uint16_t>(bytes, entry.offset + 28);
  if (start > bytes.size() || bytes.size() - start < entry.compressed)
    refuse("truncated: expected " + std::to_string(entry.compressed) + " bytes at offset " +
           std::to_string(start) + " of a file of " + std::to_string(bytes.size()));
  Bytes data = bytes.sub(start, entry.compressed);
  data.label += ": " + entry.name;
  if (entry.method == kDeflated)
    data = inflateRaw(data, entry.size);
  else if (entry.method != kStored)
    refuse("expected compression method 0 (stored) or 8 (deflated), got " +
           std::to_string(entry.method) + "; save it with numpy.savez or savez_compressed");
  else if (entry.compressed != entry.size)
    refuse("malformed zip: " + std::to_string(entry.compressed) + " bytes are stored of " +
           std::to_string(entry.size));
  const uint32_t checksum = checksumOf(data);
  if (checksum != entry.checksum) {
    char text[64];
    std::snprintf(text, sizeof text, "checksum expected %08x, got %08x", entry.checksum, checksum);
    refuse(std::string("is damaged: ") + text);
  }
  return data;
}

}  // namespace

void readNpz(const std::string&, const Bytes& bytes, const ReadOptions& options,
             Contents& contents) {
  const std::vector<Entry> entries = readDirectory(bytes);
  std::vector<std::string_view> names;
  for (const Entry& entry : entries) names.push_back(entry.name);
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) bytes.fail("the entry " + std::string(*twice) + " occurs twice");

  constexpr std::string_view kSuffix = ".npy";
  for (const Entry& entry : entries) {
    if (entry.name.ends_with("/data.pkl"))
      bytes.fail(
          "is a checkpoint of torch.save, which only Python can read; save the tensors with "
          "safetensors.torch.save_file or numpy.savez");
    if (!entry.name.ends_with(kSuffix)) {
      contents.skipped.push_back({entry.name, "it is no .npy entry"});
      continue;
    }
    const Bytes data = contentsOf(bytes, entry);
    const std::size_t before = contents.arrays.size();
    readNpy(entry.name.substr(0, entry.name.size() - kSuffix.size()), data, options, contents);
    if (contents.arrays.size() > before)
      contents.arrays.back() = contents.arrays.back().relabelled(bytes.label);
  }
}

}  // namespace eigenscope
