#include "data/readers.h"

#include <algorithm>
#include <new>
#include <stdexcept>

#include "data/formats.h"
#include "data/inflate.h"

namespace eigenscope {

namespace {

bool begins(const Bytes& bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && textAt(bytes, 0, magic.size()) == magic;
}

bool looksLikeNpy(const Bytes& bytes) { return begins(bytes, "\x93NUMPY"); }

bool looksLikeZip(const Bytes& bytes) {
  return begins(bytes, "PK\x03\x04") || begins(bytes, "PK\x05\x06");
}

bool looksLikeSafetensors(const Bytes& bytes) {
  return bytes.size() >= 10 && bytes.data()[8] == std::byte{'{'} &&
         littleEndian<uint64_t>(bytes, 0) <= bytes.size() - 8;
}

bool looksLikeIdx(const Bytes& bytes) {
  if (bytes.size() < 4) return false;
  const auto at = [&](std::size_t i) { return static_cast<int>(bytes.data()[i]); };
  return at(0) == 0 && at(1) == 0 && at(2) >= 8 && at(2) <= 14 && at(3) >= 1 && at(3) <= 8;
}

bool looksLikeText(const Bytes& bytes) {
  const std::string_view start = textAt(bytes, 0, std::min<std::size_t>(bytes.size(), 4096));
  return std::all_of(start.begin(), start.end(), [](char c) {
    return static_cast<unsigned char>(c) >= 0x20 || c == '\t' || c == '\r' || c == '\n';
  });
}

using Reader = void (*)(const std::string&, const Bytes&, const ReadOptions&, Contents&);

struct Format {
  bool (*matches)(const Bytes&);
  Reader read;
  std::vector<std::string_view> extensions;  // decide only where no contents match
};

const std::vector<Format>& formats() {
  static const std::vector<Format> kFormats = {
      {looksLikeNpy, readNpy, {".npy"}},
      {looksLikeZip, readNpz, {".npz"}},
      {looksLikeSafetensors, readSafetensors, {".safetensors"}},
      {looksLikeIdx, readIdx, {"-ubyte", ".idx"}},
      {looksLikeText, readCsv, {".csv", ".tsv", ".txt"}},
  };
  return kFormats;
}

// What is met in practice and cannot be read.
struct Foreign {
  std::string_view magic;
  const char* name;
};

constexpr Foreign kForeign[] = {
    {"\x89HDF\r\n", "an HDF5 file"},
    {"PAR1", "a Parquet file"},
    {"MATLAB 5.0", "a MATLAB file"},
    {"\x80\x02", "a Python pickle"},
    {"\x80\x03", "a Python pickle"},
    {"\x80\x04", "a Python pickle"},
    {"\x80\x05", "a Python pickle"},
    {"\x89PNG", "a PNG image"},
    {"\xff\xd8\xff", "a JPEG image"},
    {"version https://git-lfs", "a Git LFS pointer (run git lfs pull)"},
    {"<", "HTML or XML, perhaps an error page"},
};

std::string withoutGz(const std::string& path) {
  return path.ends_with(".gz") ? path.substr(0, path.size() - 3) : path;
}

Reader readerFor(const std::string& path, const Bytes& bytes) {
  // A safetensors header may begin like a pickle.
  const bool ours = looksLikeSafetensors(bytes);
  for (const Foreign& foreign : kForeign)
    if (!ours && begins(bytes, foreign.magic))
      bytes.fail(std::string("is ") + foreign.name +
                 "; expected .npy, .npz, safetensors, IDX or CSV: convert it, for example with "
                 "numpy.savez(\"data.npz\", x=x, y=y)");
  for (const Format& format : formats())
    if (format.matches(bytes)) return format.read;
  for (const Format& format : formats())
    for (std::string_view extension : format.extensions)
      if (path.ends_with(extension)) return format.read;
  bytes.fail("expected .npy, .npz, safetensors, IDX or CSV, got something else, or a damaged file");
}

}  // namespace

std::string stemOf(const std::string& path) {
  std::string name = withoutGz(path.substr(path.find_last_of('/') + 1));
  for (const Format& format : formats())
    for (std::string_view extension : format.extensions)
      if (extension[0] == '.' && name.size() > extension.size() && name.ends_with(extension))
        return name.substr(0, name.size() - extension.size());
  return name;
}

Contents readArrays(const std::string& path, Bytes bytes, const ReadOptions& options) {
  Contents contents;
  try {
    if (begins(bytes, "\x1f\x8b")) bytes = gunzip(bytes);
    readerFor(withoutGz(path), bytes)(stemOf(path), bytes, options, contents);
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::MemoryBudget, path + ": not enough memory to read it");
  } catch (const std::length_error&) {
    throw Error(ErrorKind::MemoryBudget, path + ": not enough memory to read it");
  }
  for (const Array& array : contents.arrays)
    if (printable(array.name()) != array.name())
      bytes.fail("the array " + array.name() + " has control characters in its name");
  if (contents.arrays.empty())
    bytes.fail(contents.skipped.empty()
                   ? "expected at least one array, found none"
                   : contents.skipped[0].name + ": " + contents.skipped[0].reason);
  return contents;
}

Contents readArrays(const std::string& path, const ReadOptions& options) {
  return readArrays(path, mapFile(path), options);
}

}  // namespace eigenscope
