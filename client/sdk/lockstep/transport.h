// The seam between the SDK and the network: how snapshots come in and how acknowledgements and telemetry go
// out.
//
// The SDK proper knows no gRPC. MakeGrpcTransport (grpc_transport.h) speaks to a real control plane,
// FakeControlPlane (fake_control_plane.h) is one in memory for tests, and services with a network of their
// own can write another.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "core/domain/records.h"
#include "core/domain/snapshot.h"

namespace lockstep {

// Migration (full resource name) -> the oldest epoch of it that the instance may still act on.
using HeldEpochs = std::map<std::string, uint64_t>;

// Who the instance is; the first thing sent on a stream.
struct StreamEnrolment {
  std::string instance_id;              // stable over reconnects: 1 to 128 characters of [A-Za-z0-9._:-]
  std::string service;                  // 1 to 63 characters
  std::string version;                  // the service's own
  std::vector<std::string> migrations;  // full resource names, sorted, at least one
  HeldEpochs held;                      // from before a reconnect; empty on a fresh start
  uint64_t store_epoch = 0;             // of the snapshot that `held` comes from; 0 = none
  absl::Duration lease_ttl = domain::kDefaultLeaseTtl;
  domain::LeasePolicy lease_policy = domain::LeasePolicy::kKeepServing;
};

// What arrives on a stream. A transport calls one at a time per stream, on any thread, and never after
// OnClosed. Implementations return quickly and never call the stream back from within.
class StreamHandler {
 public:
  virtual ~StreamHandler() = default;
  // Well formed but not validated: that, and whether the digest fits, is the SDK's task. `digest` is what the
  // server says of the snapshot, or of the snapshot that the delta results in.
  virtual void OnSnapshot(domain::Snapshot snapshot, uint64_t digest) = 0;
  virtual void OnDelta(domain::SnapshotDelta delta, uint64_t digest) = 0;
  // A snapshot that could not even be decoded; `why` goes back as the NACK's reason.
  virtual void OnUndecodableSnapshot(uint64_t revision, absl::Status why) = 0;
  // Answer to the oldest unanswered heartbeat; `revision` is the newest one published to this stream.
  virtual void OnHeartbeat(uint64_t revision) = 0;
  // The server is about to close the stream and asks to come back after about this long. Zero: it asks for a
  // new stream at once, and keeps this one until that has enrolled.
  virtual void OnDrain(absl::Duration reconnect_after) = 0;
  // The stream is over, for whatever reason; also when it could not be opened. Called exactly once.
  virtual void OnClosed(absl::Status why) = 0;
};

// The sending half of a stream. Thread-safe. Messages are queued and sent in order; what can't be sent any
// more is dropped, because OnClosed tells of it. Destroying the stream cancels it without waiting; OnClosed
// still comes, so the handler is shared.
class Stream {
 public:
  virtual ~Stream() = default;
  // The snapshot of this revision is in force.
  virtual void SendAccept(uint64_t revision) = 0;
  // Nothing acts on anything older than `held` any more; `revision` is that of the snapshot in force.
  virtual void SendAck(uint64_t revision, const HeldEpochs& held,
                       const std::vector<domain::SliceCheck>& slice_checks) = 0;
  virtual void SendNack(uint64_t revision, absl::string_view reason) = 0;
  virtual void SendHeartbeat(uint64_t revision, const domain::InstanceStatus& status) = 0;
  // Gives the enrolment up and closes the sending half.
  virtual void SendLeave() = 0;
};

// What became of a telemetry batch that the server has taken.
struct ReportReply {
  bool duplicate = false;                     // it had been counted before
  uint32_t stale_deltas = 0;                  // acknowledged but of an older generation, so not counted
  std::optional<absl::Duration> retry_after;  // the server asks to slow down
  // For the next batch, whatever is configured; nothing: as configured.
  std::optional<uint32_t> samples_per_fingerprint;
};

// Thread-safe. Outlives its streams, and is not destroyed from within a handler or a ReportDone.
class Transport {
 public:
  using ReportDone = std::function<void(absl::StatusOr<ReportReply>)>;

  virtual ~Transport() = default;
  // Starts a stream and returns at once; never null. Failure to connect arrives as OnClosed.
  virtual std::unique_ptr<Stream> OpenStream(const StreamEnrolment& enrolment,
                                             std::shared_ptr<StreamHandler> handler) = 0;
  // Sends one batch. `done` is called exactly once, on any thread, possibly before this returns. OK means
  // that the batch is durable or had been counted before. Errors as in telemetry_service.proto; the caller
  // retries.
  virtual void ReportComparisons(const domain::TelemetryBatch& batch, ReportDone done) = 0;
};

}  // namespace lockstep
