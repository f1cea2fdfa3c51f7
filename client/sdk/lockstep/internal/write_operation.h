// One write of a Migrator, from its route to its answer: held if it must be, authoritative side, mirror,
// repair. The state machine behind Write and WriteAsync, without the types of keys and records.
//
// Between two attempts, while it is held, it keeps nothing: no thread, no lock, no RouteHandle.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "lockstep/internal/mirror_path.h"
#include "lockstep/internal/record_access.h"
#include "lockstep/migrator_types.h"
#include "lockstep/read_token.h"

namespace lockstep::internal {

class WriteOperation {
 public:
  virtual ~WriteOperation() = default;

  // To the end, in the caller's thread, which is blocked while the write is held.
  absl::Status Run();
  // Likewise on the client's executor, where Done is called; nothing is blocked while it is held.
  static void RunAsync(std::shared_ptr<WriteOperation> operation);

  // After an OK end.
  const ReadToken& token() const { return token_; }

 protected:
  WriteOperation(std::shared_ptr<MirrorPath> path, WriteOptions options, std::string routing_key)
      : path_(std::move(path)), options_(std::move(options)), routing_key_(std::move(routing_key)) {}

  // The service's code, by side.
  virtual bool CanWrite(domain::Side side) const = 0;
  virtual bool CanMirror(domain::Side side) const = 0;
  virtual bool HasCurrent(domain::Side side) const = 0;
  // Keeps the result for WriteMirror and returns its version.
  virtual absl::StatusOr<Version> WriteAuthoritative(const WriteContext& context) = 0;
  virtual absl::Status WriteMirror(const WriteContext& context) = 0;
  // The key as KeyCodec has it; empty without one.
  virtual std::string EncodedKey() const = 0;
  // Of this record; `with_result`: knows the result of WriteAuthoritative, if there is one.
  virtual std::shared_ptr<const RecordAccess> MakeAccess(bool with_result) const = 0;
  // The end of RunAsync.
  virtual void Done(const absl::Status& status) = 0;

 private:
  // Nothing: it is held, and Park comes next.
  std::optional<absl::Status> Attempt();
  // Calls `resume` once, when it is worth another attempt; as HeldWrites::Park.
  void Park(std::function<void()> resume);
  std::optional<absl::Status> Hold(const RouteHandle& route);
  absl::Status WriteBoth(const RouteHandle& route, const WritePlan& plan);
  // Whether the mirror may be written after the call.
  bool WritesBehind(const RouteHandle& route) const;
  // After the authoritative write.
  absl::Status Mirror(const RouteHandle& route, const MirrorWrite& write, const OpenMirror& open);
  absl::Status Fail(const RouteHandle& route, const MirrorWrite& write, const OpenMirror& open,
                    const absl::Status& status, bool stopped);
  static void Step(const std::shared_ptr<WriteOperation>& operation);

  const std::shared_ptr<MirrorPath> path_;
  const WriteOptions options_;
  const std::string routing_key_;
  ReadToken token_;
  // Since it was held first; in between it may have been held by several epochs.
  std::optional<absl::Duration> held_since_;
  absl::Time hold_until_ = absl::InfiniteFuture();
  uint64_t held_by_epoch_ = 0;
  bool expired_ = false;
};

}  // namespace lockstep::internal
