// The open streams of one service, so that a shutdown can end them.
#pragma once

#include "absl/container/flat_hash_set.h"
#include "core/base/mutex.h"

namespace lockstep::service {

// A stream that can be told that the server is going away. Called with the group's lock held: it must not add
// or remove streams, and must not wait for anything.
class EndableStream {
 public:
  virtual void End() = 0;

 protected:
  ~EndableStream() = default;
};

// Thread-safe.
class StreamGroup {
 public:
  // False when the group has been ended: the stream has to be refused.
  bool Add(EndableStream* stream) {
    MutexLock lock(&mutex_);
    return !ended_ && streams_.insert(stream).second;
  }
  // When it returns, End is not being called and will not be.
  void Remove(EndableStream* stream) {
    MutexLock lock(&mutex_);
    streams_.erase(stream);
  }
  void EndAll() {
    MutexLock lock(&mutex_);
    ended_ = true;
    for (EndableStream* stream : streams_) stream->End();
  }

 private:
  Mutex mutex_;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
  absl::flat_hash_set<EndableStream*> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep::service
