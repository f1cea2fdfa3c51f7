// Threads for calls that block on the store, so that gRPC's own threads never do.
#pragma once

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>

namespace lockstep::service {

// Thread-safe. The queue is unbounded: what may wait in it is bounded by the server's limit on concurrent
// streams.
class WorkerPool {
 public:
  explicit WorkerPool(int threads) : pool_(static_cast<size_t>(threads)) {}
  // Runs what is queued, then joins.
  ~WorkerPool() { pool_.join(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  template <typename Task>
  void Submit(Task&& task) {
    boost::asio::post(pool_, std::forward<Task>(task));
  }

 private:
  boost::asio::thread_pool pool_;
};

}  // namespace lockstep::service
