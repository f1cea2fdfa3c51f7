#include "server/store/proto_record_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "core/wire/migration.h"
#include "google/protobuf/stubs/logging.h"
#include "tests/wire/random_values.h"

namespace lockstep::store {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using wire::RandomValues;
using Presence = RandomValues::Presence;

// One record kind, as bytes: what the tests below hold for every kind.
struct Kind {
  const char* name;  // as in the error
  std::function<std::string(RandomValues&)> encode_random;
  // Decodes and encodes again.
  std::function<absl::StatusOr<std::string>(absl::string_view)> recode;
};

template <typename Record>
std::function<absl::StatusOr<std::string>(absl::string_view)> Recode(
    absl::StatusOr<Record> (ProtoRecordCodec::*decode)(absl::string_view) const) {
  return [decode](absl::string_view bytes) -> absl::StatusOr<std::string> {
    const ProtoRecordCodec codec;
    const absl::StatusOr<Record> record = (codec.*decode)(bytes);
    if (!record.ok()) return record.status();
    return codec.Encode(*record);
  };
}

template <typename Record>
std::function<std::string(RandomValues&)> EncodeRandom(Record (RandomValues::*make)()) {
  return [make](RandomValues& random) { return ProtoRecordCodec().Encode((random.*make)()); };
}

std::vector<Kind> Kinds() {
  return {
      {"migration", EncodeRandom(&RandomValues::Migration), Recode(&ProtoRecordCodec::DecodeMigration)},
      {"decision", EncodeRandom(&RandomValues::DecisionRecord), Recode(&ProtoRecordCodec::DecodeDecision)},
      {"audit", EncodeRandom(&RandomValues::AuditEntry), Recode(&ProtoRecordCodec::DecodeAuditEntry)},
      {"enrolment", EncodeRandom(&RandomValues::Enrolment), Recode(&ProtoRecordCodec::DecodeEnrolment)},
      {"telemetry cursor", EncodeRandom(&RandomValues::TelemetryCursor),
       Recode(&ProtoRecordCodec::DecodeTelemetryCursor)},
      {"window", EncodeRandom(&RandomValues::WindowRecord), Recode(&ProtoRecordCodec::DecodeWindow)},
      {"mismatch sample", EncodeRandom(&RandomValues::MismatchSample),
       Recode(&ProtoRecordCodec::DecodeMismatchSample)},
  };
}

// That no field is lost on the way is tests/wire/round_trip_test.cc, for the same values.
TEST(ProtoRecordCodecTest, RoundTripIsBitForBit) {
  for (const Kind& kind : Kinds()) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
      for (const Presence presence : {Presence::kEverything, Presence::kSometimes}) {
        SCOPED_TRACE(testing::Message() << kind.name << ", seed " << seed);
        RandomValues random(seed, presence);
        const std::string bytes = kind.encode_random(random);
        const absl::StatusOr<std::string> again = kind.recode(bytes);
        ASSERT_TRUE(again.ok()) << again.status();
        ASSERT_EQ(*again, bytes);
      }
    }
  }
}

// Maps and sets have no order of their own; the bytes must not depend on how they were filled.
TEST(ProtoRecordCodecTest, EqualRecordsAreEqualBytes) {
  domain::Migration forwards, backwards;
  forwards.name = backwards.name = "namespaces/a/migrations/b";
  for (int i = 0; i < 500; ++i) {
    for (const auto& [migration, n] : {std::pair(&forwards, i), std::pair(&backwards, 499 - i)}) {
      migration->labels["label" + std::to_string(n)] = "x";
      migration->pins.keys.emplace("key" + std::to_string(n),
                                   n % 2 == 0 ? domain::Side::kOld : domain::Side::kNew);
    }
  }
  const ProtoRecordCodec codec;
  const std::string bytes = codec.Encode(forwards);
  EXPECT_EQ(codec.Encode(backwards), bytes);
  EXPECT_EQ(*Recode(&ProtoRecordCodec::DecodeMigration)(bytes), bytes);
}

TEST(ProtoRecordCodecTest, TextThatIsNotUtf8StaysReadable) {
  const ProtoRecordCodec codec;
  domain::AuditEntry entry;
  entry.number = 1;
  entry.actor = "user:\xff@host";
  const auto back = codec.DecodeAuditEntry(codec.Encode(entry));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->actor, "user:\xef\xbf\xbd@host");
}

TEST(ProtoRecordCodecTest, DamageNamesTheKind) {
  for (const Kind& kind : Kinds()) {
    SCOPED_TRACE(kind.name);
    RandomValues random(1, Presence::kEverything);
    const std::string good = kind.encode_random(random);
    for (const std::string& bytes :
         {std::string(), std::string("\xff\xff\xff"), good.substr(0, good.size() - 1)}) {
      const absl::Status status = kind.recode(bytes).status();
      EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
      EXPECT_THAT(std::string(status.message()),
                  StartsWith(std::string("damaged ") + kind.name + " record: "));
    }
  }
}

TEST(ProtoRecordCodecTest, DamageNamesTheField) {
  RandomValues random(1, Presence::kEverything);
  storage::v1::MigrationRecord record = wire::ToRecord(random.Migration());
  record.mutable_draining(0)->set_stage(static_cast<v1::Stage>(99));
  const absl::Status status = ProtoRecordCodec().DecodeMigration(record.SerializeAsString()).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("draining[0].stage: 99 is not a Stage"));
}

TEST(ProtoRecordCodecTest, RandomDamageNeverCrashes) {
  const google::protobuf::LogSilencer silencer;  // it reports every string that is not UTF-8
  for (const Kind& kind : Kinds()) {
    for (uint64_t seed = 1; seed <= 300; ++seed) {
      SCOPED_TRACE(testing::Message() << kind.name << ", seed " << seed);
      RandomValues random(seed, Presence::kSometimes);
      std::string bytes = kind.encode_random(random);
      Prng& prng = random.prng();
      for (uint64_t n = 1 + prng.Below(4); n > 0; --n) {
        bytes[prng.Below(bytes.size())] = static_cast<char>(prng.Next());
      }
      if (prng.Below(4) == 0) bytes.resize(prng.Below(bytes.size()));
      const absl::StatusOr<std::string> again = kind.recode(bytes);
      if (!again.ok()) {
        EXPECT_EQ(again.status().code(), absl::StatusCode::kDataLoss) << again.status();
        continue;
      }
      EXPECT_TRUE(kind.recode(*again).ok()) << "what was accepted can be written and read again";
    }
  }
}

}  // namespace
}  // namespace lockstep::store
