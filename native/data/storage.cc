#include "data/storage.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace eigenscope {

void Bytes::fail(const std::string& message) const {
  throw Error(ErrorKind::DataMismatch, printable(label + ": " + message));
}

std::string printable(std::string text) {
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  return text;
}

HeapBlock::HeapBlock(std::size_t size, const std::string& label) { resize(size, label); }

HeapBlock::~HeapBlock() { std::free(data_); }

void HeapBlock::resize(std::size_t size, const std::string& label) {
  void* grown = std::realloc(data_, size > 0 ? size : 1);
  if (grown == nullptr)
    throw Error(ErrorKind::MemoryBudget,
                label + ": its contents need " + std::to_string(size) +
                    " bytes of memory, which cannot be had; store the arrays uncompressed "
                    "(numpy.savez, safetensors), so that they are mapped instead of loaded");
  data_ = static_cast<std::byte*>(grown);
  size_ = size;
}

namespace {

class Borrowed : public Storage {
 public:
  explicit Borrowed(std::shared_ptr<void> owner) : owner_(std::move(owner)) {}

 private:
  std::shared_ptr<void> owner_;
};

// The descriptor stays open: asking it for the file's size is what keeps a truncated file from
// ending the process with SIGBUS.
class MappedFile : public Storage {
 public:
  explicit MappedFile(const std::string& path) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ < 0) failSystem("cannot be opened");
    if (::fstat(descriptor_, &opened_) != 0) failSystem("cannot be examined");
    if (!S_ISREG(opened_.st_mode)) close("is not a regular file; a data file is expected");
    if (opened_.st_size == 0) close("is empty (0 bytes); a data file is expected");
    data_ = ::mmap(nullptr, size(), PROT_READ, MAP_PRIVATE, descriptor_, 0);
    if (data_ == MAP_FAILED) failSystem("cannot be mapped");
  }

  ~MappedFile() override {
    ::munmap(data_, size());
    ::close(descriptor_);
  }

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> span() const { return {static_cast<std::byte*>(data_), size()}; }

  void check() const override {
    struct stat now;
    if (::fstat(descriptor_, &now) == 0 && now.st_size == opened_.st_size &&
        now.st_mtim.tv_sec == opened_.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == opened_.st_mtim.tv_nsec)
      return;
    throw Error(ErrorKind::DataMismatch,
                path_ + ": was changed on disk while in use (" + std::to_string(opened_.st_size) +
                    " bytes when opened, " + std::to_string(now.st_size) +
                    " now); load it again, and replace data files by writing a new one and "
                    "renaming it");
  }

 private:
  std::size_t size() const { return static_cast<std::size_t>(opened_.st_size); }

  [[noreturn]] void failSystem(const char* what) {
    close(std::string(what) + ": " + std::strerror(errno));
  }

  [[noreturn]] void close(const std::string& message) {
    if (descriptor_ >= 0) ::close(descriptor_);
    throw Error(ErrorKind::DataMismatch, path_ + ": " + message);
  }

  std::string path_;
  int descriptor_ = -1;
  struct stat opened_ {};
  void* data_ = nullptr;
};

}  // namespace

Bytes borrowBytes(std::string label, const void* data, std::size_t size,
                  std::shared_ptr<void> owner) {
  return {std::move(label),
          std::make_shared<Borrowed>(std::move(owner)),
          {static_cast<const std::byte*>(data), size}};
}

Bytes copyBytes(std::string label, const void* data, std::size_t size) {
  auto block = std::make_shared<HeapBlock>(size, label);
  if (size > 0) std::memcpy(block->data(), data, size);
  std::span<const std::byte> span(block->data(), size);
  return {std::move(label), std::move(block), span};
}

Bytes mapFile(const std::string& path) {
  auto file = std::make_shared<MappedFile>(path);
  auto span = file->span();
  return {path, std::move(file), span};
}

}  // namespace eigenscope
