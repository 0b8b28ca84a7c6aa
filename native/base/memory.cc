#include <unistd.h>

#include <fstream>
#include <limits>
#include <string>

#include "base/memory.h"

namespace eigenscope {

namespace {

// A control group's limit (containers, batch systems), if there is one.
int64_t groupRoom() {
  std::ifstream limit("/sys/fs/cgroup/memory.max"), current("/sys/fs/cgroup/memory.current");
  int64_t most = 0, used = 0;
  if (limit >> most && current >> used) return most - used;
  return std::numeric_limits<int64_t>::max();
}

}  // namespace

int64_t availableMemory() {
  std::ifstream info("/proc/meminfo");
  std::string key, unit;
  int64_t kib = 0;
  while (info >> key >> kib >> unit)
    if (key == "MemAvailable:") return std::min(kib * 1024, groupRoom());
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE) / 2;
}

}  // namespace eigenscope
