#include "core/wire/telemetry.h"

#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/domain/log_math.h"
#include "google/protobuf/text_format.h"
#include "tests/wire/violation_matchers.h"

namespace lockstep::wire {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::ReportComparisonsRequest ValidReport() {
  v1::ReportComparisonsRequest out;
  const bool parsed = google::protobuf::TextFormat::ParseFromString(
      R"pb(
        instance_id: "orders-1"
        session: 77
        sequence: 3
        deltas {
          migration: "namespaces/a/migrations/b"
          generation: 1
          epoch: 2
          contract_revision: 4
          bucket_start { seconds: 1800000000 }
          stats {
            old_arm {
              requests: 10
              errors: 1
              latency { index: 3 count: 4 }
              latency { index: 9 count: 6 }
            }
            new_arm { requests: 5 }
            writes { authoritative_ok: 3 mirror_ok: 2 mirror_failed: 1 }
            comparisons { outcome: COMPARISON_OUTCOME_MATCH count: 5 }
            comparisons { outcome: COMPARISON_OUTCOME_MISMATCH count: 2 }
            field_mismatches { field: "city" kind: MISMATCH_KIND_VALUE count: 1 }
            field_mismatches { field: "city" kind: MISMATCH_KIND_TYPE count: 1 }
            new_failed_only: 1
            operations_dropped: 8
          }
          samples {
            time { seconds: 1799999999 }
            field: "city"
            kind: "value"
            key_digest: "0123456789abcdef0123456789ABCDEF"
            old_digest: "00"
            old_length: 2
            new_length: 3
            epoch: 2
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736"
          }
        }
      )pb",
      &out);
  EXPECT_TRUE(parsed);
  return out;
}

TEST(TelemetryBatchTest, Valid) {
  const auto batch = TelemetryBatchFromProto(ValidReport(), kNow);
  ASSERT_TRUE(batch.ok()) << batch.status();
  EXPECT_EQ(batch->session, 77u);
  EXPECT_EQ(batch->sequence, 3u);
  ASSERT_EQ(batch->deltas.size(), 1u);
  const domain::TelemetryDelta& delta = batch->deltas[0];
  EXPECT_EQ(delta.bucket_start, kNow);
  EXPECT_EQ(delta.stats.arm(domain::Arm::kOld).latency.count(), 10u);
  EXPECT_EQ(delta.stats.comparison(domain::ComparisonOutcome::kMismatch), 2u);
  EXPECT_EQ(delta.stats.fields().at("city").total(), 2u);
  EXPECT_EQ(delta.stats.dropped.telemetry_dropped, 8u);
  EXPECT_EQ(delta.samples[0].instance_id, "orders-1");
}

TEST(TelemetryBatchTest, EmptyBatchIsValid) {
  v1::ReportComparisonsRequest request = ValidReport();
  request.clear_deltas();
  EXPECT_TRUE(TelemetryBatchFromProto(request, kNow).ok());
}

using Spoil = std::function<void(v1::ReportComparisonsRequest&)>;
struct Case {
  const char* field;
  const char* description;
  Spoil spoil;
};

Spoil OfDelta(std::function<void(v1::MigrationDelta&)> spoil) {
  return [spoil](v1::ReportComparisonsRequest& r) { spoil(*r.mutable_deltas(0)); };
}
Spoil OfStats(std::function<void(v1::WindowStats&)> spoil) {
  return [spoil](v1::ReportComparisonsRequest& r) { spoil(*r.mutable_deltas(0)->mutable_stats()); };
}
Spoil OfSample(std::function<void(v1::MismatchSample&)> spoil) {
  return [spoil](v1::ReportComparisonsRequest& r) { spoil(*r.mutable_deltas(0)->mutable_samples(0)); };
}
Spoil BucketAt(int64_t seconds, int32_t nanos = 0) {
  return OfDelta([=](v1::MigrationDelta& d) {
    d.mutable_bucket_start()->set_seconds(seconds);
    d.mutable_bucket_start()->set_nanos(nanos);
  });
}

void ExpectRefusals(const std::vector<Case>& cases) {
  for (const Case& test : cases) {
    SCOPED_TRACE(absl::StrCat(test.field, ": ", test.description));
    v1::ReportComparisonsRequest request = ValidReport();
    test.spoil(request);
    EXPECT_THAT(TelemetryBatchFromProto(request, kNow).status(), Refuses(test.field, test.description));
  }
}

TEST(TelemetryBatchTest, RefusesBadBatchesAndDeltas) {
  ExpectRefusals({
      {"instance_id", "empty", [](auto& r) { r.clear_instance_id(); }},
      {"instance_id", "other characters", [](auto& r) { r.set_instance_id("a b"); }},
      {"session", "0", [](auto& r) { r.clear_session(); }},
      {"sequence", "0", [](auto& r) { r.clear_sequence(); }},
      {"deltas", "at most 1000",
       [](auto& r) {
         for (int i = 0; i < 1000; ++i) r.add_deltas();
       }},
      {"deltas", "at most 1048576", OfSample([](auto& s) { s.set_field(std::string(1 << 20, 'x')); })},
      {"deltas[0].migration", "full name", OfDelta([](auto& d) { d.set_migration("a/b"); })},
      {"deltas[0].generation", "0", OfDelta([](auto& d) { d.clear_generation(); })},
      {"deltas[0].contract_revision", "0", OfDelta([](auto& d) { d.clear_contract_revision(); })},
      {"deltas[0].bucket_start", "not set", OfDelta([](auto& d) { d.clear_bucket_start(); })},
      {"deltas[0].bucket_start", "multiple of 5s", BucketAt(1'800'000'001)},
      {"deltas[0].bucket_start", "multiple of 5s", BucketAt(1'800'000'000, 1)},
      {"deltas[0].bucket_start", "before 2020", BucketAt(1'577'836'795)},
      {"deltas[0].bucket_start", "before 2020", BucketAt(0)},
      {"deltas[0].bucket_start", "ahead of", BucketAt(1'800'003'605)},
      {"deltas[0].bucket_start", "the year", BucketAt(std::numeric_limits<int64_t>::max())},
      {"deltas[0].bucket_start", "nanos", BucketAt(1'800'000'000, -1)},
      {"deltas[0].samples", "at most 100", OfDelta([](auto& d) {
         for (int i = 0; i < 100; ++i) *d.add_samples() = d.samples(0);
       })},
  });
  v1::ReportComparisonsRequest request = ValidReport();
  BucketAt(1'800'003'600)(request);
  EXPECT_TRUE(TelemetryBatchFromProto(request, kNow).ok()) << "exactly one hour ahead";
  BucketAt(1'577'836'800)(request);
  EXPECT_TRUE(TelemetryBatchFromProto(request, kNow).ok()) << "the first bucket of 2020";
}

TEST(TelemetryBatchTest, RefusesCountsThatCannotBe) {
  constexpr uint64_t kHuge = domain::kMaxCount + 1;
  constexpr uint64_t kHalf = uint64_t{1} << 63;  // two of them add up to 0
  ExpectRefusals({
      {"deltas[0].stats", "errors", OfStats([](auto& s) { s.mutable_old_arm()->set_errors(11); })},
      {"deltas[0].stats", "errors", OfStats([](auto& s) { s.mutable_new_arm()->set_errors(6); })},
      {"deltas[0].stats", "latencies",
       OfStats([](auto& s) { s.mutable_old_arm()->mutable_latency(0)->set_count(5); })},
      {"deltas[0].stats", "mismatches of field 'city'",
       OfStats([](auto& s) { s.mutable_field_mismatches(0)->set_count(2); })},
      {"deltas[0].stats", "paired", OfStats([](auto& s) { s.set_old_failed_only(7); })},
      {"deltas[0].stats.old_arm.latency", "rising index",
       OfStats([](auto& s) { s.mutable_old_arm()->mutable_latency(1)->set_index(3); })},
      {"deltas[0].stats.old_arm.latency", "does not exist", OfStats([](auto& s) {
         s.mutable_old_arm()->mutable_latency(1)->set_index(domain::LatencySketch::kBucketCount);
       })},
      {"deltas[0].stats.new_arm.latency", "count of 0",
       OfStats([](auto& s) { s.mutable_new_arm()->add_latency()->set_index(1); })},
      {"deltas[0].stats.comparisons[1].outcome", "twice",
       OfStats([](auto& s) { s.mutable_comparisons(1)->set_outcome(v1::COMPARISON_OUTCOME_MATCH); })},
      {"deltas[0].stats.comparisons[1].outcome", "not set",
       OfStats([](auto& s) { s.mutable_comparisons(1)->clear_outcome(); })},
      {"deltas[0].stats.comparisons[1].outcome", "11 is not a ComparisonOutcome", OfStats([](auto& s) {
         s.mutable_comparisons(1)->set_outcome(static_cast<v1::ComparisonOutcome>(11));
       })},
      {"deltas[0].stats.comparisons[0].count", "largest",
       OfStats([](auto& s) { s.mutable_comparisons(0)->set_count(kHuge); })},
      {"deltas[0].stats.field_mismatches[1]", "twice",
       OfStats([](auto& s) { s.mutable_field_mismatches(1)->set_kind(v1::MISMATCH_KIND_VALUE); })},
      {"deltas[0].stats.field_mismatches[1].kind", "not set",
       OfStats([](auto& s) { s.mutable_field_mismatches(1)->clear_kind(); })},
      {"deltas[0].stats.field_mismatches[1].field", "empty",
       OfStats([](auto& s) { s.mutable_field_mismatches(1)->clear_field(); })},
      {"deltas[0].stats.field_mismatches[1].field", "at most 256",
       OfStats([](auto& s) { s.mutable_field_mismatches(1)->set_field(std::string(257, 'x')); })},
      {"deltas[0].stats.field_mismatches[0].count", "largest", OfStats([](auto& s) {
         s.mutable_field_mismatches(0)->set_count(kHalf);
         s.mutable_field_mismatches(1)->set_count(kHalf);
       })},
      {"deltas[0].stats.field_mismatches", "at most 64", OfStats([](auto& s) {
         for (int i = 0; i < 64; ++i) {
           v1::FieldMismatchCount* added = s.add_field_mismatches();
           added->set_field(absl::StrCat("f", i));
           added->set_kind(v1::MISMATCH_KIND_VALUE);
           added->set_count(1);
         }
       })},
      {"deltas[0].stats.new_arm.requests", "largest",
       OfStats([](auto& s) { s.mutable_new_arm()->set_requests(kHuge); })},
      {"deltas[0].stats.writes.mirror_shed", "largest",
       OfStats([](auto& s) { s.mutable_writes()->set_mirror_shed(kHuge); })},
      {"deltas[0].stats.paired_slower", "largest", OfStats([](auto& s) { s.set_paired_slower(kHuge); })},
      {"deltas[0].stats.paired_not_slower", "largest",
       OfStats([](auto& s) { s.set_paired_not_slower(kHuge); })},
      {"deltas[0].stats", "paired latencies", OfStats([](auto& s) { s.set_paired_slower(8); })},
      {"deltas[0].stats.repairs_queued", "largest", OfStats([](auto& s) { s.set_repairs_queued(kHuge); })},
      {"deltas[0].stats.repairs_done", "largest", OfStats([](auto& s) { s.set_repairs_done(kHuge); })},
      {"deltas[0].stats.rows_to_copy", "largest", OfStats([](auto& s) { s.set_rows_to_copy(kHuge); })},
      {"deltas[0].stats.rows_copied", "largest", OfStats([](auto& s) { s.set_rows_copied(kHuge); })},
      {"deltas[0].stats.operations_dropped", "largest",
       OfStats([](auto& s) { s.set_operations_dropped(std::numeric_limits<uint64_t>::max()); })},
  });
}

Spoil OfTrials(std::function<void(v1::SubjectTrials&)> spoil) {
  return OfStats([spoil](v1::WindowStats& s) { spoil(*s.mutable_old_reads_subjects()); });
}
Spoil OfEvents(std::function<void(v1::SubjectEvents&)> spoil) {
  return OfStats([spoil](v1::WindowStats& s) { spoil(*s.mutable_mismatched_subjects()); });
}
void AddSlots(google::protobuf::RepeatedField<uint64_t>& slots, int count) {
  for (int i = 0; i < count; ++i) slots.Add(0);
}
void AddAffected(v1::SubjectEvents& events, uint64_t id, uint64_t count) {
  v1::AffectedSubject* added = events.add_affected();
  added->set_id(id);
  added->set_events(count);
}

TEST(TelemetryBatchTest, RefusesSubjectsThatCannotBe) {
  constexpr uint64_t kHuge = domain::kMaxCount + 1;
  ExpectRefusals({
      {"deltas[0].stats.old_reads_subjects.sparse_registers", "beside dense_registers", OfTrials([](auto& t) {
         t.set_dense_registers(std::string(4096, '\0'));
         t.add_sparse_registers(65);
       })},
      {"deltas[0].stats.old_reads_subjects.dense_registers", "4095 registers; send none or 4096",
       OfTrials([](auto& t) { t.set_dense_registers(std::string(4095, '\1')); })},
      {"deltas[0].stats.old_reads_subjects.dense_registers", "4097 registers",
       OfTrials([](auto& t) { t.set_dense_registers(std::string(4097, '\1')); })},
      {"deltas[0].stats.old_reads_subjects.dense_registers", "register 0 is 54",
       OfTrials([](auto& t) { t.set_dense_registers(std::string(4096, 54)); })},
      {"deltas[0].stats.old_reads_subjects.dense_registers", "register 0 is 255",
       OfTrials([](auto& t) { t.set_dense_registers(std::string(4096, '\xff')); })},
      {"deltas[0].stats.old_reads_subjects.sparse_registers[1]", "comes after register 7",
       OfTrials([](auto& t) {
         t.add_sparse_registers(7 * 64 + 1);
         t.add_sparse_registers(7 * 64 + 2);
       })},
      {"deltas[0].stats.old_reads_subjects.sparse_registers[1]", "register 6 comes after register 7",
       OfTrials([](auto& t) {
         t.add_sparse_registers(7 * 64 + 1);
         t.add_sparse_registers(6 * 64 + 1);
       })},
      {"deltas[0].stats.old_reads_subjects.sparse_registers[0]", "value 0",
       OfTrials([](auto& t) { t.add_sparse_registers(7 * 64); })},
      {"deltas[0].stats.old_reads_subjects.sparse_registers[0]", "value 54; the largest is 53",
       OfTrials([](auto& t) { t.add_sparse_registers(7 * 64 + 54); })},
      {"deltas[0].stats.old_reads_subjects.sparse_registers[0]", "register 4096 does not exist",
       OfTrials([](auto& t) { t.add_sparse_registers(4096 * 64 + 1); })},
      {"deltas[0].stats.old_reads_subjects.sparse_registers[0]", "does not exist",
       OfTrials([](auto& t) { t.add_sparse_registers(std::numeric_limits<uint32_t>::max()); })},
      {"deltas[0].stats.old_reads_subjects.slots", "63 entries; send none or 64",
       OfTrials([](auto& t) { AddSlots(*t.mutable_slots(), 63); })},
      {"deltas[0].stats.old_reads_subjects.slots", "65 entries",
       OfTrials([](auto& t) { AddSlots(*t.mutable_slots(), 65); })},
      {"deltas[0].stats.old_reads_subjects.slots[5]", "largest", OfTrials([](auto& t) {
         AddSlots(*t.mutable_slots(), 64);
         t.set_slots(5, kHuge);
       })},
      {"deltas[0].stats", "old arm: requests with a subject = 11 is more than", OfTrials([](auto& t) {
         AddSlots(*t.mutable_slots(), 64);
         t.set_slots(5, 11);
       })},
      {"deltas[0].stats", "registers set by a subject = 1 is more than",
       OfTrials([](auto& t) { t.add_sparse_registers(1); })},
      {"deltas[0].stats.new_reads_subjects.slots", "1 entries",
       OfStats([](auto& s) { s.mutable_new_reads_subjects()->add_slots(0); })},
      {"deltas[0].stats.compared_subjects.slots", "1 entries",
       OfStats([](auto& s) { s.mutable_compared_subjects()->add_slots(0); })},
      {"deltas[0].stats.mismatched_subjects.slots", "1 entries", OfEvents([](auto& e) { e.add_slots(1); })},
      {"deltas[0].stats.mismatched_subjects.slots[0]", "largest", OfEvents([](auto& e) {
         AddSlots(*e.mutable_slots(), 64);
         e.set_slots(0, kHuge);
       })},
      {"deltas[0].stats.mismatched_subjects.affected[1].id", "rising id", OfEvents([](auto& e) {
         AddAffected(e, 9, 1);
         AddAffected(e, 9, 1);
       })},
      {"deltas[0].stats.mismatched_subjects.affected[1].id", "rising id", OfEvents([](auto& e) {
         AddAffected(e, 9, 1);
         AddAffected(e, 8, 1);
       })},
      {"deltas[0].stats.mismatched_subjects.affected[0].events", "is 0",
       OfEvents([](auto& e) { AddAffected(e, 9, 0); })},
      {"deltas[0].stats.mismatched_subjects.affected[0].events", "largest",
       OfEvents([](auto& e) { AddAffected(e, 9, kHuge); })},
      {"deltas[0].stats.mismatched_subjects.affected", "at most 256", OfEvents([](auto& e) {
         for (uint64_t i = 0; i < 257; ++i) AddAffected(e, i, 1);
       })},
      {"deltas[0].stats", "mismatches of affected subjects = 3 is more than mismatches = 2",
       OfEvents([](auto& e) { AddAffected(e, 9, 3); })},
      {"deltas[0].stats.old_errors_subjects.affected[0].events", "is 0",
       OfStats([](auto& s) { s.mutable_old_errors_subjects()->add_affected(); })},
      {"deltas[0].stats.new_errors_subjects.affected[0].events", "is 0",
       OfStats([](auto& s) { s.mutable_new_errors_subjects()->add_affected(); })},
      {"deltas[0].stats.new_failed_only_subjects.affected[0].events", "is 0",
       OfStats([](auto& s) { s.mutable_new_failed_only_subjects()->add_affected(); })},
      {"deltas[0].stats.old_failed_only_subjects.affected[0].events", "is 0",
       OfStats([](auto& s) { s.mutable_old_failed_only_subjects()->add_affected(); })},
  });
}

TEST(TelemetryBatchTest, RefusesBadSamples) {
  ExpectRefusals({
      {"deltas[0].samples[0].time", "not set", OfSample([](auto& s) { s.clear_time(); })},
      {"deltas[0].samples[0].time", "nanos", OfSample([](auto& s) { s.mutable_time()->set_nanos(-5); })},
      {"deltas[0].samples[0].field", "at most 256",
       OfSample([](auto& s) { s.set_field(std::string(257, 'x')); })},
      {"deltas[0].samples[0].kind", "none of value, type", OfSample([](auto& s) { s.clear_kind(); })},
      {"deltas[0].samples[0].kind", "none of value, type", OfSample([](auto& s) { s.set_kind("Value"); })},
      {"deltas[0].samples[0].key_digest", "empty", OfSample([](auto& s) { s.clear_key_digest(); })},
      {"deltas[0].samples[0].key_digest", "hexadecimal",
       OfSample([](auto& s) { s.set_key_digest(std::string(32, 'x')); })},
      {"deltas[0].samples[0].key_digest", "at most 32",
       OfSample([](auto& s) { s.set_key_digest(std::string(33, 'a')); })},
      {"deltas[0].samples[0].old_digest", "hexadecimal",
       OfSample([](auto& s) { s.set_old_digest("raw value"); })},
      {"deltas[0].samples[0].new_digest", "at most 64",
       OfSample([](auto& s) { s.set_new_digest(std::string(65, 'a')); })},
      {"deltas[0].samples[0].instance_id", "not the batch's",
       OfSample([](auto& s) { s.set_instance_id("other"); })},
      {"deltas[0].samples[0].trace_id", "at least 32", OfSample([](auto& s) { s.set_trace_id("4bf9"); })},
      {"deltas[0].samples[0].trace_id", "hexadecimal", OfSample([](auto& s) { s.set_trace_id("no trace"); })},
  });
}

TEST(TelemetryBatchTest, TextThatIsNotUtf8IsRepairedBeforeItIsSent) {
  domain::TelemetryBatch batch;
  domain::TelemetryDelta& delta = batch.deltas.emplace_back();
  delta.samples.push_back({.time = kNow, .field = "ci\xffty", .kind = "value", .trace_id = "\xc3"});
  domain::FieldMismatches counts;
  counts[domain::MismatchKind::kValue] = 1;
  ASSERT_TRUE(delta.stats.AddFieldMismatches("\xed\xa0\x80", counts).ok());
  v1::ReportComparisonsRequest parsed;
  ASSERT_TRUE(parsed.ParseFromString(ToProto(batch).SerializeAsString()));
  EXPECT_EQ(parsed.deltas(0).samples(0).field(), "ci\xef\xbf\xbdty");
}

TEST(TelemetryBatchTest, OddSamplesDoNotCostTheBatch) {
  domain::TelemetryBatch batch = *TelemetryBatchFromProto(ValidReport(), kNow);
  batch.deltas[0].samples[0].field = std::string(255, 'x') + "\xc3\xa4";
  batch.deltas[0].samples[0].trace_id = "request 7";
  const auto back = TelemetryBatchFromProto(ToProto(batch), kNow);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->deltas[0].samples[0].field, std::string(255, 'x'));
  EXPECT_EQ(back->deltas[0].samples[0].trace_id, "");
}

}  // namespace
}  // namespace lockstep::wire
