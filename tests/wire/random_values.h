// Seeded random domain values for round-trip tests, and the means to tell whether a message has every field
// set.
#pragma once

#include <string>
#include <vector>

#include "core/base/prng.h"
#include "core/domain/decision.h"
#include "core/domain/records.h"
#include "core/domain/snapshot.h"
#include "google/protobuf/message.h"

namespace lockstep::wire {

// Not thread-safe.
class RandomValues {
 public:
  // kEverything: every field has a value other than its default and every list has an element, so that
  // whatever is missing in a message was forgotten by the conversion. kSometimes: optional parts come and go.
  enum class Presence { kEverything, kSometimes };

  RandomValues(uint64_t seed, Presence presence) : prng_(seed), presence_(presence) {}

  domain::Migration Migration();
  domain::DecisionRecord DecisionRecord();
  domain::AuditEntry AuditEntry();
  domain::Enrolment Enrolment();
  std::vector<domain::SliceCheck> SliceChecks();
  domain::InstanceStatus InstanceStatus();
  domain::TelemetryCursor TelemetryCursor();
  domain::WindowRecord WindowRecord();
  domain::MismatchSample MismatchSample();
  // As TelemetryBatchFromProto accepts it at `now`.
  domain::TelemetryBatch TelemetryBatch(absl::Time now);
  domain::Snapshot Snapshot();
  domain::SnapshotDelta SnapshotDelta();
  domain::Decision Decision();
  domain::WindowStats WindowStats();
  domain::GateResult GateResult();
  domain::RoutingState RoutingState();
  domain::Pins Pins();

  Prng& prng() { return prng_; }

 private:
  bool Coin() { return presence_ == Presence::kEverything || prng_.Below(2) == 0; }
  // 1 to `most`, or also 0 under kSometimes.
  size_t Size(size_t most);
  uint64_t Number() { return 1 + prng_.Below(uint64_t{1} << 52); }
  uint32_t Weight() { return static_cast<uint32_t>(1 + prng_.Below(domain::kBucketCount)); }
  double Fraction() { return (1 + static_cast<double>(prng_.Below(999))) / 1000; }
  std::string Text(absl::string_view what);
  std::string Hex(size_t characters);
  std::string Name();
  absl::Time Time();
  absl::Duration Period();
  // An enumerator other than the first, which might be what a forgotten conversion leaves.
  template <typename Enum>
  Enum Pick(Enum last) {
    return static_cast<Enum>(1 + prng_.Below(static_cast<uint64_t>(last)));
  }
  domain::MigrationPlan Plan();
  void AddSubjects(domain::WindowStats& stats);
  domain::Contract Contract();

  Prng prng_;
  const Presence presence_;
  uint64_t names_ = 0;
};

// Paths of the fields that `message`, or a message in it, leaves at their default; [] stands for any element
// of a list.
std::vector<std::string> UnsetFields(const google::protobuf::Message& message);

// "" when equal; else what differs.
std::string Difference(const google::protobuf::Message& a, const google::protobuf::Message& b);

}  // namespace lockstep::wire
