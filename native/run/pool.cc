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

  void help(int worker) {
    {
      std::lock_guard lock(mutex);
      if (closed) return;
      ++running;
    }
    takeTasks(worker);
    std::lock_guard lock(mutex);
    if (--running == 0) done.notify_all();
  }

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
    for (; idle_ < queue_.size() && threads_ < kMost; ++idle_, ++threads_)
      std::thread([this] { serve(); }).detach();
    wake_.notify_all();
  }

  // On a busy machine a job may be done before all of its helpers came.
  void withdraw(const std::shared_ptr<Job>& job) {
    std::lock_guard lock(mutex_);
    std::erase_if(queue_, [&](const auto& entry) { return entry.first == job; });
  }

 private:
  static constexpr size_t kMost = 256;

  void serve() {
    for (;;) {
      std::pair<std::shared_ptr<Job>, int> entry;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return !queue_.empty(); });
        entry = std::move(queue_.front());
        queue_.pop_front();
        --idle_;
      }
      entry.first->help(entry.second);
      std::lock_guard lock(mutex_);
      ++idle_;
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::pair<std::shared_ptr<Job>, int>> queue_;
  size_t idle_ = 0, threads_ = 0;  // idle: those that wait, and those that start
};

}  // namespace

void parallel(int threads, int64_t tasks, const std::function<void(int, int64_t)>& work) {
  const int helpers = static_cast<int>(std::min<int64_t>(threads, tasks)) - 1;
  auto job = std::make_shared<Job>();
  job->work = &work;
  job->tasks = tasks;
  if (helpers > 0) Pool::instance().help(job, helpers);
  job->takeTasks(0);
  if (helpers > 0) Pool::instance().withdraw(job);
  std::unique_lock lock(job->mutex);
  job->closed = true;
  job->done.wait(lock, [&] { return job->running == 0; });
  if (job->error) std::rethrow_exception(job->error);
}

}  // namespace eigenscope
