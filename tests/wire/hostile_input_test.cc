// Whatever bytes arrive: every reader returns a value or an error, and what it accepts can be sent again. Run
// it under AddressSanitizer and UndefinedBehaviorSanitizer to see more than a crash.
#include <gtest/gtest.h>

#include <functional>

#include "core/wire/evidence_log.h"
#include "core/wire/migration.h"
#include "core/wire/records.h"
#include "core/wire/routing.h"
#include "core/wire/telemetry.h"
#include "google/protobuf/stubs/logging.h"
#include "tests/wire/random_values.h"

namespace lockstep::wire {
namespace {

constexpr int kRounds = 1500;
const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

std::string Mutate(std::string bytes, Prng& prng) {
  for (uint64_t n = prng.Below(6); n > 0 && !bytes.empty(); --n) {
    const size_t at = prng.Below(bytes.size());
    switch (prng.Below(4)) {
      case 0:
        bytes[at] = static_cast<char>(prng.Next());
        break;
      case 1:
        bytes[at] = static_cast<char>(bytes[at] ^ (1 << prng.Below(8)));
        break;
      case 2:
        bytes.insert(at, bytes.substr(at, 1 + prng.Below(8)));
        break;
      default:
        bytes.erase(at, 1 + prng.Below(8));
    }
  }
  if (prng.Below(8) == 0) bytes.resize(prng.Below(bytes.size() + 1));
  return bytes;
}

// `use` reads the message and does with the value what the next layer would.
template <typename Message>
void Attack(uint64_t seed, const std::function<Message(RandomValues&)>& make,
            const std::function<void(const Message&)>& use) {
  SCOPED_TRACE(testing::Message() << Message::descriptor()->full_name() << ", seed " << seed);
  RandomValues random(seed, RandomValues::Presence::kSometimes);
  const google::protobuf::LogSilencer silencer;  // it reports every string that is not UTF-8
  int parsed = 0;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes;
    if (round % 10 == 0) {
      bytes.resize(random.prng().Below(200));
      for (char& c : bytes) c = static_cast<char>(random.prng().Next());
    } else {
      bytes = Mutate(make(random).SerializeAsString(), random.prng());
    }
    Message message;
    if (!message.ParseFromString(bytes)) continue;
    ++parsed;
    use(message);
  }
  EXPECT_GT(parsed, kRounds / 20);
}

// Conversion there must accept what conversion back made.
template <typename Message, typename Read, typename Write>
std::function<void(const Message&)> ReadAndWrite(Read read, Write write) {
  return [=](const Message& message) {
    const auto value = read(message);
    if (!value.ok()) {
      EXPECT_FALSE(value.status().message().empty());
      return;
    }
    const auto again = read(write(*value));
    EXPECT_TRUE(again.ok()) << again.status();
  };
}

TEST(HostileInputTest, MigrationRecord) {
  Attack<storage::v1::MigrationRecord>(
      1, [](RandomValues& r) { return ToRecord(r.Migration()); },
      ReadAndWrite<storage::v1::MigrationRecord>(&MigrationFromRecord,
                                                 [](const domain::Migration& m) { return ToRecord(m); }));
}

TEST(HostileInputTest, MigrationDefinition) {
  Attack<v1::Migration>(
      2, [](RandomValues& r) { return ToProto(r.Migration()); },
      ReadAndWrite<v1::Migration>(&MigrationFromProto,
                                  [](const domain::Migration& m) { return ToProto(m); }));
}

TEST(HostileInputTest, Update) {
  Attack<v1::UpdateMigrationRequest>(
      3,
      [](RandomValues& r) {
        v1::UpdateMigrationRequest request;
        *request.mutable_migration() = ToProto(r.Migration());
        for (const char* path : {"plan", "pins", "labels", "contract"}) {
          if (r.prng().Below(2) == 0) request.mutable_update_mask()->add_paths(path);
        }
        return request;
      },
      [](const v1::UpdateMigrationRequest& request) {
        const auto update = UpdateFromProto(request);
        if (!update.ok()) return;
        domain::Migration to;
        (void)ApplyUpdateMask(update->update_mask, update->migration, &to);
      });
}

TEST(HostileInputTest, Decision) {
  Attack<v1::DecisionRecord>(
      4, [](RandomValues& r) { return ToProto(r.DecisionRecord()); },
      ReadAndWrite<v1::DecisionRecord>(&DecisionRecordFromProto,
                                       [](const domain::DecisionRecord& d) { return ToProto(d); }));
}

TEST(HostileInputTest, Snapshot) {
  Attack<v1::Snapshot>(
      5, [](RandomValues& r) { return ToProto(r.Snapshot(), 1); },
      [](const v1::Snapshot& message) {
        const auto snapshot = SnapshotFromProto(message);
        if (!snapshot.ok() || !domain::ValidateSnapshot(*snapshot, nullptr).ok()) return;
        for (const domain::MigrationRouting& routing : snapshot->migrations) {
          (void)domain::Decide(routing.state, "key", nullptr);
        }
      });
}

TEST(HostileInputTest, Enrol) {
  Attack<v1::Enrol>(
      6, [](RandomValues& r) { return EnrolToProto(r.Enrolment(), 1); },
      ReadAndWrite<v1::Enrol>(&EnrolFromProto,
                              [](const domain::Enrolment& e) { return EnrolToProto(e, 1); }));
}

TEST(HostileInputTest, Ack) {
  Attack<v1::Ack>(
      9,
      [](RandomValues& r) {
        return ToProto(Ack{r.prng().Next(), r.Enrolment().acknowledged_epochs, r.SliceChecks()});
      },
      ReadAndWrite<v1::Ack>(&AckFromProto, [](const Ack& ack) { return ToProto(ack); }));
}

TEST(HostileInputTest, SnapshotDelta) {
  Attack<v1::SnapshotDelta>(
      10, [](RandomValues& r) { return ToProto(r.SnapshotDelta(), 1); },
      [](const v1::SnapshotDelta& message) {
        const auto delta = SnapshotDeltaFromProto(message);
        if (!delta.ok()) return;
        domain::Snapshot base;
        base.revision = delta->base_revision;
        const auto applied = domain::ApplyDelta(base, *delta);
        if (applied.ok()) (void)domain::ValidateSnapshot(*applied, &base);
      });
}

TEST(HostileInputTest, Telemetry) {
  Attack<v1::ReportComparisonsRequest>(
      7, [](RandomValues& r) { return ToProto(r.TelemetryBatch(kNow)); },
      ReadAndWrite<v1::ReportComparisonsRequest>(
          [](const v1::ReportComparisonsRequest& request) { return TelemetryBatchFromProto(request, kNow); },
          [](const domain::TelemetryBatch& batch) { return ToProto(batch); }));
}

TEST(HostileInputTest, Window) {
  Attack<storage::v1::WindowRecord>(
      8, [](RandomValues& r) { return ToRecord(r.WindowRecord()); },
      ReadAndWrite<storage::v1::WindowRecord>(&WindowFromRecord,
                                              [](const domain::WindowRecord& w) { return ToRecord(w); }));
}

TEST(HostileInputTest, EvidenceBucket) {
  Attack<v1::EvidenceLine>(
      9,
      [](RandomValues& r) {
        return ToProto(domain::EvidenceBucket{.start = kNow, .stats = r.WindowStats()});
      },
      ReadAndWrite<v1::EvidenceLine>(&EvidenceLineFromProto,
                                     [](const domain::EvidenceLine& line) { return ToProto(line); }));
}

TEST(HostileInputTest, EvidenceHeader) {
  Attack<v1::EvidenceLine>(
      10, [](RandomValues& r) { return ToProto(domain::EvidenceHeader{.plan = r.Migration().plan}); },
      ReadAndWrite<v1::EvidenceLine>(&EvidenceLineFromProto,
                                     [](const domain::EvidenceLine& line) { return ToProto(line); }));
}

}  // namespace
}  // namespace lockstep::wire
