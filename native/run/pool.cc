#include "run/pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

namespace eigenscope {

int availableThreads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

namespace {

struct Job {
  const std::function<void(int, int64_t)>* work;
  int64_t tasks;
  std::atomic<int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr error;
  std::mutex mutex;
  std::condition_variable done;
  int running = 0;      // helpers inside work
  bool closed = false;  // late helpers stay out

  void takeTasks(int worker) {
    try {
      for (;;) {
        const int64_t task = next.fetch_add(1);
        if (task >= tasks || failed) return;
        (*work)(worker, task);
      }
    } catch (...) {
      std::lock_guard lock(mutex);
      if (!failed.exchange(true)) error = std::current_exception();
    }
  }
};

// Never destroyed: detached threads may still wait in it when the process ends.
class Pool {
 public:
  static Pool& instance() {
    static Pool* pool = new Pool;
    return *pool;
  }

  void help(const std::shared_ptr<Job>& job, int helpers) {
    std::lock_guard lock(mutex_);
    for (int worker = 1; worker <= helpers; ++worker) queue_.push_back({job, worker});
    while (threads_ < std::max(helpers, static_cast<int>(queue_.size())) && threads_ < kMost) {
      std::thread([this] { serve(); }).detach();
      ++threads_;
    }
    wake_.notify_all();
  }

 private:
  static constexpr int kMost = 256;

  void serve() {
    for (;;) {
      std::pair<std::shared_ptr<Job>, int> entry;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !queue_.empty(); });
        entry = std::move(queue_.front());
        queue_.pop_front();
      }
      Job& job = *entry.first;
      {
        std::lock_guard lock(job.mutex);
        if (job.closed) continue;
        ++job.running;
      }
      job.takeTasks(entry.second);
      std::lock_guard lock(job.mutex);
      if (--job.running == 0) job.done.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<std::shared_ptr<Job>, int>> queue_;
  int threads_ = 0;
};

}  // namespace

void parallel(int threads, int64_t tasks, const std::function<void(int, int64_t)>& work) {
  const int helpers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
  auto job = std::make_shared<Job>();
  job->work = &work;
  job->tasks = tasks;
  if (helpers > 0) Pool::instance().help(job, helpers);
  job->takeTasks(0);
  std::unique_lock lock(job->mutex);
  job->closed = true;
  job->done.wait(lock, [&] { return job->running == 0; });
  if (job->error) std::rethrow_exception(job->error);
}

}  // namespace eigenscope
