// Gets what the recorder counted to the control plane, exactly once.
//
// Deltas wait in a bounded backlog, merged by (bucket, attribution). One batch is under way at a time; it is
// repeated under the same (session, sequence) until it is acknowledged, and the server counts a sequence
// once. Only then does the next one get a number. An empty batch says no more than that the instance is
// there, and has nothing to report; it is numbered and repeated like any other.
//
// Not thread-safe: belongs to the session's thread. Takes no time by itself and does no I/O.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/prng.h"
#include "core/domain/records.h"
#include "lockstep/transport.h"

namespace lockstep::internal {

struct ReporterOptions {
  std::string instance_id;
  size_t max_pending_deltas = 512;
  absl::Duration backoff_initial = absl::Milliseconds(100);
  absl::Duration backoff_max = absl::Seconds(10);
  // Without a batch for so long, KeepAlive makes an empty one. The server takes an instance for silent after
  // a minute (Plan.telemetry_limits.stale_after), so that one of these may well be late.
  absl::Duration keep_alive_interval = absl::Seconds(15);
};

class Reporter {
 public:
  Reporter(ReporterOptions options, uint64_t seed);

  // Takes deltas into the backlog and keeps it within its bound.
  void Add(std::vector<domain::TelemetryDelta> deltas);

  // For as long as the control plane should hear of the instance whether anything happens or not: sees to it
  // that NextToSend has an empty batch if there has been none for the interval. `now` since boot.
  void KeepAlive(absl::Duration now);

  // The batch to send now, or null: nothing to send, one is under way, or it is too early. `now` since boot.
  // The caller must report back with OnReply, once. Valid until then.
  const domain::TelemetryBatch* NextToSend(absl::Duration now);
  void OnReply(const absl::StatusOr<ReportReply>& reply, absl::Duration now);

  // Everything added is acknowledged. An empty batch may still be under way.
  bool idle() const {
    return (!batch_.has_value() || batch_->deltas.empty()) && pending_.empty() && lost_.empty();
  }
  // When NextToSend may have something, given that there is something; nothing while a reply is awaited or
  // when there is nothing.
  std::optional<absl::Duration> due() const;
  // What the server, as it last answered, leaves to the mismatches of the next batch; nothing: as configured.
  std::optional<uint32_t> samples_per_fingerprint() const { return samples_per_fingerprint_; }
  uint64_t acknowledged() const { return acknowledged_; }
  uint64_t operations_dropped() const { return operations_dropped_; }
  uint64_t operations_waiting() const;

 private:
  // (bucket, migration, generation, epoch, contract revision): the oldest first.
  using Key = std::tuple<absl::Time, std::string, uint64_t, uint64_t, uint64_t>;

  static Key KeyOf(const domain::TelemetryDelta& delta);
  void AddOne(domain::TelemetryDelta delta);
  // Merges the oldest delta that has a later one of its kind into it; false when there is none.
  bool MergeForward();
  // Counts the delta's operations as dropped, in a delta that is reported in its place.
  void Lose(const domain::TelemetryDelta& dropped);
  void MakeBatch();
  // Whether NextToSend has or can make a batch.
  bool has_batch() const { return batch_.has_value() || !pending_.empty() || !lost_.empty(); }
  // The server will never take the batch as it is: narrow it down to the delta at fault, and drop that.
  void Bisect(const absl::Status& why);

  const ReporterOptions options_;
  Prng prng_;
  uint64_t session_;
  uint64_t next_sequence_ = 1;
  std::map<Key, domain::TelemetryDelta> pending_;
  // Per migration: what was dropped and not yet reported as such.
  std::map<std::string, domain::TelemetryDelta> lost_;
  std::optional<domain::TelemetryBatch> batch_;
  bool awaiting_reply_ = false;
  int attempts_ = 0;
  absl::Duration not_before_ = absl::ZeroDuration();
  // When a batch was sent last, for the first time or again; nothing: never.
  std::optional<absl::Duration> last_sent_;
  std::optional<uint32_t> samples_per_fingerprint_;
  uint64_t acknowledged_ = 0;
  uint64_t operations_dropped_ = 0;
};

// Everything counted in `stats` that is counted once only: reads, writes, comparisons, repairs queued and
// done, rows of a backfill to copy and copied, and what is counted as dropped already.
uint64_t OperationsIn(const domain::WindowStats& stats);

}  // namespace lockstep::internal
