#pragma once

#include <cstdint>
#include <functional>

namespace eigenscope {

// Threads of this machine that the process may use.
int availableThreads();

// Runs work(worker, task) for every task in [0, tasks) on at most `threads` threads, the caller's
// among them; worker is in [0, threads) and no two calls with one worker overlap. Tasks are taken
// in ascending order. One process-wide set of threads serves all callers. The first exception is
// thrown again here, after all workers have stopped.
void parallel(int threads, int64_t tasks, const std::function<void(int, int64_t)>& work);

}  // namespace eigenscope
