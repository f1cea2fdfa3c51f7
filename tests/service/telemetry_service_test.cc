// Reports over gRPC: counted exactly once, and nothing that cannot be.
#include <functional>

#include "absl/strings/match.h"
#include "core/domain/latency_sketch.h"
#include "tests/service/service_fixture.h"
#include "tests/support/http_client.h"

namespace lockstep::service {
namespace {

using Code = absl::StatusCode;
using Request = v1::ReportComparisonsRequest;

class TelemetryServiceTest : public ServiceTest {
 protected:
  TelemetryServiceTest() { CreateSample("orders"); }

  double Matches(const std::string& id = "orders") {
    return testing::MetricValue(
        testing::HttpGet(server_->http_port(), "/metrics").body,
        absl::StrCat("lockstep_comparisons_total{migration=\"", NameOf(id), "\",outcome=\"match\"}"));
  }
};

v1::WindowStats* StatsOf(Request* batch) { return batch->mutable_deltas(0)->mutable_stats(); }

struct BadBatch {
  std::string what;
  std::function<void(Request*)> spoil;
  std::string field;
  std::string message;
};

const std::vector<BadBatch>& BadBatches() {
  static const auto* const table = new std::vector<BadBatch>{
      {"no instance", [](Request* r) { r->clear_instance_id(); }, "instance_id", ""},
      {"no session", [](Request* r) { r->set_session(0); }, "session", "0"},
      {"no sequence", [](Request* r) { r->set_sequence(0); }, "sequence", "count from 1"},
      {"malformed migration", [](Request* r) { r->mutable_deltas(0)->set_migration("orders"); },
       "deltas[0].migration", ""},
      {"generation 0", [](Request* r) { r->mutable_deltas(0)->set_generation(0); }, "deltas[0].generation",
       "count from 1"},
      {"a generation to come", [](Request* r) { r->mutable_deltas(0)->set_generation(9); },
       "deltas[0].generation", "newest"},
      {"a contract to come", [](Request* r) { r->mutable_deltas(0)->set_contract_revision(9); },
       "deltas[0].contract_revision", "newest"},
      {"bucket not on the grid",
       [](Request* r) { r->mutable_deltas(0)->mutable_bucket_start()->set_seconds(1700000001); },
       "deltas[0].bucket_start", "multiple of 5s"},
      {"bucket missing", [](Request* r) { r->mutable_deltas(0)->clear_bucket_start(); },
       "deltas[0].bucket_start", "not set"},
      {"bucket of long ago", [](Request* r) { r->mutable_deltas(0)->mutable_bucket_start()->set_seconds(5); },
       "deltas[0].bucket_start", "clock"},
      {"bucket of tomorrow",
       [](Request* r) {
         auto* start = r->mutable_deltas(0)->mutable_bucket_start();
         start->set_seconds(start->seconds() + 86400);
       },
       "deltas[0].bucket_start", "clock"},
      {"more errors than requests",
       [](Request* r) {
         StatsOf(r)->mutable_old_arm()->set_requests(1);
         StatsOf(r)->mutable_old_arm()->set_errors(2);
       },
       "deltas[0].stats", "cannot be"},
      {"more mismatches of a field than comparisons",
       [](Request* r) {
         auto* field = StatsOf(r)->add_field_mismatches();
         field->set_field("name");
         field->set_kind(v1::MISMATCH_KIND_VALUE);
         field->set_count(100);
       },
       "deltas[0].stats", "cannot be"},
      {"more latencies than requests",
       [](Request* r) {
         auto* cell = StatsOf(r)->mutable_old_arm()->add_latency();
         cell->set_index(3);
         cell->set_count(1);
       },
       "deltas[0].stats", "cannot be"},
      {"latency bucket beyond the last",
       [](Request* r) {
         StatsOf(r)->mutable_old_arm()->set_requests(1);
         auto* cell = StatsOf(r)->mutable_old_arm()->add_latency();
         cell->set_index(domain::LatencySketch::kBucketCount);
         cell->set_count(1);
       },
       "deltas[0].stats.old_arm.latency", "1102 does not exist"},
      {"a negative count in disguise",
       [](Request* r) { StatsOf(r)->mutable_comparisons(0)->set_count(~0ull); }, "deltas[0].stats", ""},
      {"outcome missing", [](Request* r) { StatsOf(r)->mutable_comparisons(0)->clear_outcome(); },
       "deltas[0].stats.comparisons[0].outcome", ""},
      {"outcome twice", [](Request* r) { *StatsOf(r)->add_comparisons() = StatsOf(r)->comparisons(0); },
       "deltas[0].stats.comparisons[1]", ""},
      {"unknown outcome",
       [](Request* r) {
         StatsOf(r)->mutable_comparisons(0)->set_outcome(static_cast<v1::ComparisonOutcome>(77));
       },
       "deltas[0].stats.comparisons[0].outcome", "77"},
      {"1001 deltas",
       [](Request* r) {
         while (r->deltas_size() < 1001) *r->add_deltas() = r->deltas(0);
       },
       "deltas", "1000"},
      {"over 1 MiB",
       [](Request* r) {
         for (int i = 0; i < 100; ++i) {
           auto* sample = r->mutable_deltas(0)->add_samples();
           sample->set_trace_id(std::string(12000, 't'));
         }
       },
       "deltas", "1048576"},
      {"101 samples",
       [](Request* r) {
         for (int i = 0; i < 101; ++i) r->mutable_deltas(0)->add_samples();
       },
       "deltas[0].samples", "100"},
      {"a sample with raw values in place of digests",
       [](Request* r) {
         auto* sample = r->mutable_deltas(0)->add_samples();
         sample->mutable_time()->set_seconds(1700000000);
         sample->set_kind("value");
         sample->set_key_digest("00112233445566778899aabbccddeeff");
         sample->set_old_digest("Ann Smith");
       },
       "deltas[0].samples[0].old_digest", ""},
  };
  return *table;
}

TEST_F(TelemetryServiceTest, BatchesThatCannotBeAreRefusedNamingTheFieldAndCountNothing) {
  for (const BadBatch& bad : BadBatches()) {
    Request batch = SampleBatch("i-1", 7, 1, "orders", 10);
    bad.spoil(&batch);
    const absl::Status refused = api_.Report(batch).status();
    EXPECT_TRUE(Fails(refused, Code::kInvalidArgument, "INVALID_ARGUMENT")) << bad.what;
    bool found = false;
    if (const auto info = GetErrorInfo(refused)) {
      for (const FieldViolation& violation : info->field_violations) {
        found |= absl::StrContains(violation.field, bad.field) &&
                 absl::StrContains(violation.description, bad.message);
      }
    }
    EXPECT_TRUE(found) << bad.what << ": " << testing::Describe(refused);
  }
  EXPECT_EQ(Matches(), 0);
  // The sequence was not used up.
  const auto good = api_.Report(SampleBatch("i-1", 7, 1, "orders", 10));
  ASSERT_TRUE(IsOk(good));
  EXPECT_FALSE(good->duplicate());
  EXPECT_EQ(Matches(), 10);
}

TEST_F(TelemetryServiceTest, RepeatsAreAcknowledgedAndNotCountedAgain) {
  ASSERT_TRUE(IsOk(api_.Report(SampleBatch("i-1", 7, 1, "orders", 10))));
  const auto repeat = api_.Report(SampleBatch("i-1", 7, 1, "orders", 10));
  ASSERT_TRUE(IsOk(repeat));
  EXPECT_TRUE(repeat->duplicate());
  EXPECT_EQ(Matches(), 10);
  ASSERT_TRUE(IsOk(api_.Report(SampleBatch("i-1", 7, 2, "orders", 5))));
  EXPECT_TRUE(api_.Report(SampleBatch("i-1", 7, 1, "orders", 10))->duplicate());
  // Another process of the same instance, and another instance, count on their own.
  EXPECT_FALSE(api_.Report(SampleBatch("i-1", 8, 1, "orders", 1))->duplicate());
  EXPECT_FALSE(api_.Report(SampleBatch("i-2", 7, 1, "orders", 1))->duplicate());
  EXPECT_EQ(Matches(), 17);
}

TEST_F(TelemetryServiceTest, AGapIsRefusedAndSaysWhatIsExpected) {
  ASSERT_TRUE(IsOk(api_.Report(SampleBatch("i-1", 7, 1, "orders", 10))));
  const auto gap = api_.Report(SampleBatch("i-1", 7, 3, "orders", 10));
  EXPECT_TRUE(Fails(gap, Code::kOutOfRange, "SEQUENCE_GAP", {"2"}));
  EXPECT_EQ(GetErrorInfo(gap.status())->metadata.at("expected_sequence"), "2");
  EXPECT_TRUE(Fails(api_.Report(SampleBatch("i-9", 7, 2, "orders", 10)), Code::kOutOfRange, "SEQUENCE_GAP"));
  EXPECT_EQ(Matches(), 10);
}

TEST_F(TelemetryServiceTest, AnUnknownMigrationRefusesTheWholeBatch) {
  Request batch = SampleBatch("i-1", 7, 1, "orders", 10);
  *batch.add_deltas() = SampleBatch("i-1", 7, 1, "ghost", 10).deltas(0);
  EXPECT_TRUE(Fails(api_.Report(batch), Code::kNotFound, "MIGRATION_NOT_FOUND", {NameOf("ghost")}));
  EXPECT_EQ(Matches(), 0);
}

TEST_F(TelemetryServiceTest, AnOldGenerationIsAcknowledgedAndNotCounted) {
  ASSERT_TRUE(IsOk(api_.Start("orders")));
  v1::AbortMigrationRequest abort;
  abort.set_name(NameOf("orders"));
  const auto aborted = api_.Call(&v1::MigrationService::Stub::AbortMigration, abort);
  ASSERT_TRUE(IsOk(aborted));
  ASSERT_EQ(aborted->routing().generation(), 2u);
  Request batch = SampleBatch("i-1", 7, 1, "orders", 10);
  Request fresh = SampleBatch("i-1", 7, 1, "orders", 3);
  *batch.add_deltas() = fresh.deltas(0);
  batch.mutable_deltas(1)->set_generation(2);
  const auto receipt = api_.Report(batch);
  ASSERT_TRUE(IsOk(receipt));
  EXPECT_EQ(receipt->stale_deltas(), 1u);
  EXPECT_FALSE(receipt->duplicate());
  EXPECT_EQ(Matches(), 3);
}

TEST_F(TelemetryServiceTest, SamplesAreListedNewestFirstAndCappedByFingerprint) {
  for (uint64_t sequence = 1; sequence <= 3; ++sequence) {
    Request batch = SampleBatch("i-1", 7, sequence, "orders", 10);
    auto* stats = StatsOf(&batch);
    auto* outcome = stats->add_comparisons();
    outcome->set_outcome(v1::COMPARISON_OUTCOME_MISMATCH);
    outcome->set_count(10);
    auto* field = stats->add_field_mismatches();
    field->set_field("name");
    field->set_kind(v1::MISMATCH_KIND_VALUE);
    field->set_count(10);
    for (int i = 0; i < 10; ++i) {
      auto* sample = batch.mutable_deltas(0)->add_samples();
      sample->mutable_time()->set_seconds(1700000000 + static_cast<int64_t>(sequence) * 100 + i);
      sample->set_field("name");
      sample->set_kind("value");
      sample->set_key_digest("00112233445566778899aabbccddeeff");
    }
    ASSERT_TRUE(IsOk(api_.Report(batch)));
  }
  v1::ListMismatchSamplesRequest request;
  request.set_parent(NameOf("orders"));
  request.set_page_size(15);
  const auto first = api_.Call(&v1::MigrationService::Stub::ListMismatchSamples, request);
  ASSERT_TRUE(IsOk(first));
  ASSERT_EQ(first->samples_size(), 15);
  EXPECT_EQ(first->samples(0).time().seconds(), 1700000309);
  EXPECT_EQ(first->samples(0).instance_id(), "i-1");
  request.set_page_token(first->next_page_token());
  const auto rest = api_.Call(&v1::MigrationService::Stub::ListMismatchSamples, request);
  ASSERT_TRUE(IsOk(rest));
  EXPECT_EQ(rest->samples_size(), 5);
  EXPECT_TRUE(rest->next_page_token().empty());
}

}  // namespace
}  // namespace lockstep::service
