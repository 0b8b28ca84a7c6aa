#include <doctest.h>

#include <atomic>
#include <filesystem>
#include <iterator>
#include <stdexcept>
#include <thread>
#include <vector>

#include "run/pool.h"

using eigenscope::parallel;

namespace {

int64_t threadsOfProcess() {
  const std::filesystem::directory_iterator tasks("/proc/self/task");
  return std::distance(begin(tasks), end(tasks));
}

}  // namespace

TEST_SUITE("threads") {
  TEST_CASE("every task is done once, by at most so many workers") {
    for (const int threads : {1, 2, 5}) {
      std::vector<std::atomic<int>> done(1000);
      std::atomic<int> most{0};
      parallel(threads, 1000, [&](int worker, int64_t task) {
        ++done[static_cast<size_t>(task)];
        int seen = most;
        while (worker > seen && !most.compare_exchange_weak(seen, worker)) {
        }
      });
      for (const auto& times : done) CHECK(times == 1);
      CHECK(most < threads);
    }
  }

  TEST_CASE("what a task throws reaches the caller, and the threads serve the next job") {
    CHECK_THROWS_WITH(parallel(4, 100,
                               [](int, int64_t task) {
                                 if (task == 37) throw std::runtime_error("task 37");
                               }),
                      "task 37");
    std::atomic<int64_t> sum{0};
    parallel(4, 100, [&](int, int64_t task) { sum += task; });
    CHECK(sum == 4950);
  }

  // Jobs that end before their helpers came must not leave requests for threads behind.
  TEST_CASE("many short jobs at once need no more threads than they ask for") {
    const int callers = 8;
    const int64_t before = threadsOfProcess();
    {
      std::vector<std::jthread> threads;
      for (int i = 0; i < callers; ++i)
        threads.emplace_back([] {
          for (int round = 0; round < 2000; ++round) parallel(2, 2, [](int, int64_t) {});
        });
    }
    CHECK(threadsOfProcess() <= before + callers);
  }
}
