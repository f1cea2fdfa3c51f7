// Messages of a call in an arena of their own: one allocation to parse a request of many small parts, and one
// to free it.
//
//   SetMessageAllocatorFor_ReportComparisons(&allocator_);   // in the service's constructor
#pragma once

#include <google/protobuf/arena.h>
#include <grpcpp/support/message_allocator.h>

#include <cstddef>

namespace lockstep::service {

// Thread-safe. Outlives the server. `kFirstBlockBytes`: what a usual request takes, parsed.
template <typename Request, typename Response, size_t kFirstBlockBytes>
class ArenaMessages final : public grpc::MessageAllocator<Request, Response> {
 public:
  grpc::MessageHolder<Request, Response>* AllocateMessages() override { return new Holder; }

 private:
  class Holder final : public grpc::MessageHolder<Request, Response> {
   public:
    Holder() : arena_(first_block_, sizeof(first_block_)) {
      this->set_request(google::protobuf::Arena::CreateMessage<Request>(&arena_));
      this->set_response(google::protobuf::Arena::CreateMessage<Response>(&arena_));
    }
    void Release() override { delete this; }

   private:
    alignas(std::max_align_t) char first_block_[kFirstBlockBytes];  // not initialised
    google::protobuf::Arena arena_;
  };
};

}  // namespace lockstep::service
