// A control plane in memory, for tests of services that use the SDK. Part of lockstep_client_testing.
//
//   auto plane = std::make_shared<FakeControlPlane>();
//   plane->SetStage("shop/orders", domain::Stage::kCanaryRead, 5000);   // 5 % of keys
//   auto client = Client::Create({.transport = plane, .service = "orders", .migrations = {"shop/orders"}});
//   ...
//   EXPECT_EQ(plane->Totals("shop/orders").mismatches(), 0);
//
// It publishes whatever it is told, without gates or fences, and counts telemetry exactly once by (instance,
// session, sequence) as the real one does. Thread-safe; calls handlers on the thread that causes the event.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "core/base/prng.h"
#include "lockstep/transport.h"

namespace lockstep {

class FakeControlPlane final : public Transport, public std::enable_shared_from_this<FakeControlPlane> {
 public:
  struct Accept {
    std::string instance_id;
    uint64_t revision = 0;
  };
  struct Ack {
    std::string instance_id;
    uint64_t revision = 0;
    HeldEpochs held;
    std::vector<domain::SliceCheck> slice_checks;
  };
  struct Nack {
    std::string instance_id;
    uint64_t revision = 0;
    std::string reason;
  };

  FakeControlPlane();
  ~FakeControlPlane() override;

  // Publishing. Names may be short ("ns/id"); every change is a new epoch and a new revision.
  // `read_weight` in buckets: 1000 = 1 %; taken where the stage leaves it open.
  void SetStage(absl::string_view migration, domain::Stage stage, uint32_t read_weight = 0);
  // Everything but the epoch is taken as given.
  void SetState(absl::string_view migration, domain::RoutingState state);
  void SetContract(absl::string_view migration, domain::Contract contract);
  void RemoveMigration(absl::string_view migration);
  // Sends this snapshot as it is to every stream, valid or not; what was published before stays the truth.
  void PublishRaw(domain::Snapshot snapshot);
  void PublishUndecodable(absl::Status why);

  // Changes go out as deltas to what the stream has got; a stream that begins, or rejects something, gets the
  // whole snapshot.
  void SetSendsDeltas(bool sends_deltas);
  // The same states under new numbers, as after a backup was restored: revision and epochs begin at 1. Ends
  // every stream. A server takes another store epoch then; one that takes the same is at fault.
  void RestoreBackup(uint64_t store_epoch);

  // Faults.
  // The next change is not sent, though heartbeats announce it.
  void LoseNextChange();
  // The next message of a state goes out with a wrong digest.
  void SpoilNextDigest();
  // Closes every open stream.
  void Disconnect(absl::Status why = absl::UnavailableError("disconnected by the test"));
  // While unreachable, streams close at once and reports fail with UNAVAILABLE, uncounted.
  void SetReachable(bool reachable);
  void SendDrain(absl::Duration reconnect_after);
  void SetAnswersHeartbeats(bool answers);
  // Each report is, by seeded chance, lost before it is counted, counted but its answer lost, or answered.
  void SetReportFaults(uint64_t seed, double lose_request, double lose_reply);
  // The next report gets this answer and is not counted.
  void FailNextReport(absl::Status status);

  // What was seen.
  uint64_t revision() const;
  uint64_t store_epoch() const;
  uint64_t EpochOf(absl::string_view migration) const;
  std::vector<StreamEnrolment> Enrolments() const;  // every stream ever opened
  std::vector<Accept> Accepts() const;
  std::vector<Ack> Acks() const;
  std::vector<Nack> Nacks() const;
  std::vector<std::string> Left() const;  // instances that left
  uint64_t Heartbeats() const;
  std::vector<domain::InstanceStatus> Statuses() const;  // of each heartbeat
  uint64_t DeltasSent() const;
  // Sum over every counted delta of the migration.
  domain::WindowStats Totals(absl::string_view migration) const;
  std::vector<domain::TelemetryDelta> Deltas() const;  // counted, in order of arrival
  uint64_t DuplicateReports() const;

  std::unique_ptr<Stream> OpenStream(const StreamEnrolment& enrolment,
                                     std::shared_ptr<StreamHandler> handler) override;
  void ReportComparisons(const domain::TelemetryBatch& batch, ReportDone done) override;

 private:
  class FakeStream;
  struct Connection;
  friend class FakeStream;

  domain::Snapshot SnapshotForLocked(const StreamEnrolment& enrolment) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  domain::MigrationRouting& RoutingLocked(absl::string_view migration) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Sends the current state to every stream.
  void Publish();
  void SendCurrent(Connection& connection);
  // The whole snapshot, unless that is what was sent last.
  void SendAfterNack(Connection& connection);
  std::vector<std::shared_ptr<Connection>> Connections() const;
  absl::StatusOr<ReportReply> CountReport(const domain::TelemetryBatch& batch);
  void Close(const std::shared_ptr<Connection>& connection, absl::Status why);

  mutable Mutex mutex_;
  uint64_t revision_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t store_epoch_ ABSL_GUARDED_BY(mutex_) = 1;
  bool sends_deltas_ ABSL_GUARDED_BY(mutex_) = false;
  bool lose_next_change_ ABSL_GUARDED_BY(mutex_) = false;
  bool spoil_next_digest_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t deltas_sent_ ABSL_GUARDED_BY(mutex_) = 0;
  bool reachable_ ABSL_GUARDED_BY(mutex_) = true;
  bool answers_heartbeats_ ABSL_GUARDED_BY(mutex_) = true;
  double lose_request_ ABSL_GUARDED_BY(mutex_) = 0;
  double lose_reply_ ABSL_GUARDED_BY(mutex_) = 0;
  Prng prng_ ABSL_GUARDED_BY(mutex_);
  std::optional<absl::Status> next_report_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, domain::MigrationRouting> migrations_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, uint64_t> last_epochs_ ABSL_GUARDED_BY(mutex_);  // survive RemoveMigration
  std::vector<std::shared_ptr<Connection>> connections_ ABSL_GUARDED_BY(mutex_);
  std::vector<StreamEnrolment> enrolments_ ABSL_GUARDED_BY(mutex_);
  std::vector<Accept> accepts_ ABSL_GUARDED_BY(mutex_);
  std::vector<Ack> acks_ ABSL_GUARDED_BY(mutex_);
  std::vector<Nack> nacks_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> left_ ABSL_GUARDED_BY(mutex_);
  std::vector<domain::InstanceStatus> statuses_ ABSL_GUARDED_BY(mutex_);
  uint64_t heartbeats_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t duplicate_reports_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::pair<std::string, uint64_t>, uint64_t> cursors_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, domain::WindowStats> totals_ ABSL_GUARDED_BY(mutex_);
  std::vector<domain::TelemetryDelta> deltas_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace lockstep
