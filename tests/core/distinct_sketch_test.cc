#include "core/domain/distinct_sketch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>

#include <cmath>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/prng.h"
#include "core/domain/log_math.h"

namespace lockstep::domain {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kSeed = 90210;

// Of the subjects 0 to n - 1, as the SDK hashes them.
DistinctSketch SketchOf(uint64_t subjects, uint64_t seed) {
  DistinctSketch sketch;
  for (uint64_t i = 0; i < subjects; ++i) sketch.Add(XXH3_64bits_withSeed(&i, sizeof(i), seed));
  return sketch;
}

DistinctSketch RandomSketch(Prng& prng) {
  DistinctSketch sketch;
  const uint64_t subjects = uint64_t{1} << prng.Below(15);
  // Half of them from a small range, so that sketches overlap.
  for (uint64_t i = 0; i < subjects; ++i) {
    const uint64_t subject = i % 2 == 0 ? prng.Below(1000) : prng.Next();
    sketch.Add(XXH3_64bits_withSeed(&subject, sizeof(subject), kSeed));
  }
  return sketch;
}

DistinctSketch Merged(DistinctSketch a, const DistinctSketch& b) {
  a.Merge(b);
  return a;
}

TEST(DistinctSketchTest, EstimatesWithinFourStandardErrors) {
  const struct {
    uint64_t subjects;
    uint64_t seeds;
  } kCases[] = {{0, 1}, {1, 50}, {100, 50}, {4096, 50}, {100'000, 20}, {3'000'000, 3}};
  for (const auto& test : kCases) {
    double squares = 0;
    for (uint64_t seed = kSeed; seed < kSeed + test.seeds; ++seed) {
      SCOPED_TRACE(absl::StrCat(test.subjects, " subjects, seed ", seed));
      const DistinctSketch sketch = SketchOf(test.subjects, seed);
      const auto truth = static_cast<double>(test.subjects);
      EXPECT_NEAR(sketch.Estimate(), truth, 4 * DistinctSketch::kStandardError * truth);
      EXPECT_LE(sketch.LowerBound(), sketch.Estimate());
      if (test.subjects > 0) squares += std::pow(sketch.Estimate() / truth - 1, 2);
    }
    // The root of the mean square is the standard error; 1.5 times as much is improbable for 20 seeds.
    EXPECT_LE(std::sqrt(squares / static_cast<double>(test.seeds)), 1.5 * DistinctSketch::kStandardError);
  }
}

TEST(DistinctSketchTest, RepetitionsChangeNothing) {
  DistinctSketch twice = SketchOf(5000, kSeed);
  for (uint64_t i = 0; i < 5000; ++i) twice.Add(XXH3_64bits_withSeed(&i, sizeof(i), kSeed));
  EXPECT_EQ(twice, SketchOf(5000, kSeed));
}

TEST(DistinctSketchTest, RegisterIsTheFirstBitsAndRankTheFirstOneAmongTheRest) {
  const struct {
    uint64_t hash;
    size_t index;
    uint8_t rank;
  } kCases[] = {
      {0, 0, 53},
      {1, 0, 52},
      {uint64_t{1} << 51, 0, 1},
      {~uint64_t{0}, 4095, 1},
      {uint64_t{0xabc} << 52, 0xabc, 53},
      {(uint64_t{0x800} << 52) | (uint64_t{1} << 48), 0x800, 4},
  };
  for (const auto& test : kCases) {
    DistinctSketch sketch;
    sketch.Add(test.hash);
    EXPECT_EQ(sketch.registers()[test.index], test.rank) << test.hash;
    EXPECT_EQ(sketch.hit_registers(), 1u);
  }
}

TEST(DistinctSketchTest, MergeIsTheSketchOfTheUnion) {
  // Subjects 0 to 29,999 over three parts that overlap.
  DistinctSketch parts[3];
  for (uint64_t i = 0; i < 30'000; ++i) {
    const uint64_t hash = XXH3_64bits_withSeed(&i, sizeof(i), kSeed);
    parts[i % 3].Add(hash);
    if (i % 5 == 0) parts[(i + 1) % 3].Add(hash);
  }
  EXPECT_EQ(Merged(Merged(parts[0], parts[1]), parts[2]), SketchOf(30'000, kSeed));
}

TEST(DistinctSketchTest, MergeIsAssociativeCommutativeAndIdempotent) {
  for (uint64_t round = 0; round < 200; ++round) {
    SCOPED_TRACE(absl::StrCat("seed ", kSeed + round));
    Prng prng(kSeed + round);
    const DistinctSketch a = RandomSketch(prng), b = RandomSketch(prng), c = RandomSketch(prng);
    ASSERT_EQ(Merged(Merged(a, b), c), Merged(a, Merged(b, c)));
    ASSERT_EQ(Merged(a, b), Merged(b, a));
    ASSERT_EQ(Merged(a, a), a);
    ASSERT_EQ(Merged(a, DistinctSketch()), a);
    ASSERT_EQ(Merged(DistinctSketch(), a), a);
    ASSERT_GE(Merged(a, b).Estimate(), a.Estimate());
  }
}

TEST(DistinctSketchTest, RegistersRoundTrip) {
  for (uint64_t round = 0; round < 50; ++round) {
    Prng prng(kSeed + round);
    const DistinctSketch sketch = RandomSketch(prng);
    const auto back = DistinctSketch::FromRegisters(sketch.registers());
    ASSERT_TRUE(back.ok()) << back.status();
    ASSERT_EQ(*back, sketch);
  }
}

TEST(DistinctSketchTest, EmptyHasOneForm) {
  EXPECT_TRUE(DistinctSketch().empty());
  EXPECT_TRUE(DistinctSketch().registers().empty());
  EXPECT_EQ(DistinctSketch().Estimate(), 0);
  EXPECT_EQ(DistinctSketch().LowerBound(), 0);
  EXPECT_EQ(*DistinctSketch::FromRegisters({}), DistinctSketch());
  EXPECT_EQ(*DistinctSketch::FromRegisters(std::vector<uint8_t>(DistinctSketch::kRegisters)),
            DistinctSketch());
}

TEST(DistinctSketchTest, EstimateIsFiniteWhateverWasSent) {
  for (int rank = 1; rank <= DistinctSketch::kMaxRank; ++rank) {
    for (size_t empty : {size_t{0}, size_t{1}, DistinctSketch::kRegisters - 1}) {
      std::vector<uint8_t> registers(DistinctSketch::kRegisters, static_cast<uint8_t>(rank));
      std::fill_n(registers.begin(), empty, uint8_t{0});
      const double estimate = DistinctSketch::FromRegisters(registers)->Estimate();
      EXPECT_GT(estimate, 0) << "rank " << rank << ", " << empty << " empty";
      EXPECT_LE(estimate, static_cast<double>(kMaxCount)) << "rank " << rank << ", " << empty << " empty";
    }
  }
}

TEST(DistinctSketchTest, RefusesWhatIsNoSketch) {
  std::vector<uint8_t> too_large(DistinctSketch::kRegisters);
  too_large[7] = DistinctSketch::kMaxRank + 1;
  const struct {
    std::vector<uint8_t> registers;
    std::string message;
  } kCases[] = {
      {std::vector<uint8_t>(1), "1 registers; send none or 4096"},
      {std::vector<uint8_t>(DistinctSketch::kRegisters - 1), "4095 registers"},
      {std::vector<uint8_t>(DistinctSketch::kRegisters + 1), "4097 registers"},
      {too_large, "register 7 is 54; the largest value is 53"},
  };
  for (const auto& test : kCases) {
    const auto sketch = DistinctSketch::FromRegisters(test.registers);
    EXPECT_EQ(sketch.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(sketch.status().message()), HasSubstr(test.message));
  }
}

}  // namespace
}  // namespace lockstep::domain
