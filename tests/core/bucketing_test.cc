#include "core/domain/bucketing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <xxhash.h>  // the shared library's functions, to check the inlined ones against

#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "core/base/log.h"
#include "core/base/prng.h"

namespace lockstep::domain {
namespace {

constexpr char kGoldenFile[] = LOCKSTEP_GOLDEN_DIR "/bucketing.json";

// The smallest hash of a bucket: ceil(bucket * 2^64 / kBucketCount).
uint64_t LowestHashOf(uint32_t bucket) {
  const unsigned __int128 scaled = static_cast<unsigned __int128>(bucket) << 64;
  return static_cast<uint64_t>((scaled + kBucketCount - 1) / kBucketCount);
}

std::vector<uint64_t> GoldenHashes() {
  std::vector<uint64_t> hashes = {0, 1};
  for (const uint32_t bucket : {1u, 2u, 3125u, 49999u, 50000u, 99998u, 99999u}) {
    hashes.push_back(LowestHashOf(bucket) - 1);
    hashes.push_back(LowestHashOf(bucket));
  }
  hashes.push_back(~uint64_t{0} - 1);
  hashes.push_back(~uint64_t{0});
  return hashes;
}

std::vector<std::pair<std::string, std::string>> GoldenKeys() {
  std::vector<std::pair<std::string, std::string>> keys;
  const std::string all_bytes = [] {
    std::string bytes;
    for (int byte = 0; byte < 256; ++byte) bytes.push_back(static_cast<char>(byte));
    return bytes;
  }();
  for (const std::string salt : {"", "checkout", "5f0c0a5e-7a43-4c1f-9d3b-2f6f5c1a9b10", "größe"}) {
    for (const std::string& key : std::vector<std::string>{"",
                                                           "0",
                                                           "1",
                                                           "a",
                                                           "order-1",
                                                           "order-2",
                                                           "tenant/42",
                                                           "550e8400-e29b-41d4-a716-446655440000",
                                                           "Zürich",
                                                           "東京",
                                                           "🚀",
                                                           std::string("nul\0inside", 10),
                                                           "\xff\xfe not UTF-8",
                                                           all_bytes,
                                                           std::string(16, 'x'),
                                                           std::string(17, 'x'),
                                                           std::string(128, 'x'),
                                                           std::string(129, 'x'),
                                                           std::string(240, 'x'),
                                                           std::string(241, 'x'),
                                                           std::string(kMaxKeyBytes, 'k')}) {
      keys.emplace_back(salt, key);
    }
  }
  return keys;
}

// One vector a line, so that a change is a readable diff and a reader needs no JSON library.
std::string RenderGolden() {
  std::string text = absl::StrCat(
      "{\n  \"about\": \"hash = XXH3-64(key, seed = XXH3-64(salt)); bucket = floor(hash * ", kBucketCount,
      " / 2^64); comparison_bucket = the same of murmur3's 64-bit finaliser of hash. Keys and salts are "
      "bytes: *_hex "
      "counts, the text beside it is for people.\",\n  \"buckets_of_hashes\": [\n");
  const std::vector<uint64_t> hashes = GoldenHashes();
  for (size_t i = 0; i < hashes.size(); ++i) {
    absl::StrAppendFormat(&text, "    {\"hash\": \"%016x\", \"bucket\": %d, \"comparison_bucket\": %d}%s\n",
                          hashes[i], BucketOfHash(hashes[i]), ComparisonBucketOfHash(hashes[i]),
                          i + 1 < hashes.size() ? "," : "");
  }
  absl::StrAppend(&text, "  ],\n  \"buckets_of_keys\": [\n");
  const auto keys = GoldenKeys();
  for (size_t i = 0; i < keys.size(); ++i) {
    const auto& [salt, key] = keys[i];
    const uint64_t hash = KeyHash(SaltSeed(salt), key);
    absl::StrAppendFormat(
        &text,
        "    {\"salt\": %s, \"salt_hex\": \"%s\", \"key\": %s, \"key_hex\": \"%s\", \"hash\": \"%016x\", "
        "\"bucket\": %d, \"comparison_bucket\": %d}%s\n",
        JsonQuote(salt), absl::BytesToHexString(salt), JsonQuote(key), absl::BytesToHexString(key), hash,
        BucketOfHash(hash), ComparisonBucketOfHash(hash), i + 1 < keys.size() ? "," : "");
  }
  absl::StrAppend(&text, "  ]\n}\n");
  return text;
}

std::string ReadGolden() {
  std::ifstream file(kGoldenFile, std::ios::binary);
  std::stringstream content;
  content << file.rdbuf();
  return content.str();
}

// The text of a member of the object on this line, without quotes; the values looked for hold no escapes.
std::string Member(absl::string_view line, absl::string_view name) {
  const std::string prefix = absl::StrCat("\"", name, "\": ");
  const size_t at = line.find(prefix);
  EXPECT_NE(at, absl::string_view::npos) << name << " is missing in " << line;
  absl::string_view rest = line.substr(at + prefix.size());
  if (rest[0] == '"') rest.remove_prefix(1);
  return std::string(rest.substr(0, rest.find_first_of(",\"}")));
}

uint64_t Number(absl::string_view line, absl::string_view name) {
  uint64_t value = 0;
  EXPECT_TRUE(absl::SimpleAtoi(Member(line, name), &value)) << line;
  return value;
}

TEST(BucketingGoldenTest, EveryVectorOfTheFileHolds) {
  if (std::getenv("LOCKSTEP_UPDATE_GOLDEN") != nullptr)
    std::ofstream(kGoldenFile, std::ios::binary) << RenderGolden();
  const std::string text = ReadGolden();
  ASSERT_FALSE(text.empty()) << kGoldenFile << " is missing";
  int of_hashes = 0, of_keys = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    if (!absl::StrContains(line, "\"hash\"")) continue;
    uint64_t hash = 0;
    ASSERT_TRUE(absl::SimpleHexAtoi(Member(line, "hash"), &hash)) << line;
    EXPECT_EQ(BucketOfHash(hash), Number(line, "bucket")) << line;
    EXPECT_EQ(ComparisonBucketOfHash(hash), Number(line, "comparison_bucket")) << line;
    if (!absl::StrContains(line, "\"key_hex\"")) {
      ++of_hashes;
      continue;
    }
    const std::string salt = absl::HexStringToBytes(Member(line, "salt_hex"));
    const std::string key = absl::HexStringToBytes(Member(line, "key_hex"));
    EXPECT_EQ(KeyHash(SaltSeed(salt), key), hash) << line;
    EXPECT_EQ(Bucket(salt, key), Number(line, "bucket")) << line;
    ++of_keys;
  }
  EXPECT_EQ(of_hashes, static_cast<int>(GoldenHashes().size()));
  EXPECT_EQ(of_keys, static_cast<int>(GoldenKeys().size()));
}

TEST(BucketingGoldenTest, FileIsUpToDate) {
  EXPECT_EQ(ReadGolden(), RenderGolden())
      << "if the change is meant, rewrite the file with LOCKSTEP_UPDATE_GOLDEN=1";
}

TEST(BucketingTest, HashIsXxh3OfTheLibrary) {
  // The value that the XXH3 specification gives for the empty input.
  EXPECT_EQ(SaltSeed(""), 0x2d06800538d394c2u);
  const uint64_t seed = SystemSeed();
  SCOPED_TRACE(absl::StrCat("seed ", seed));
  Prng prng(seed);
  for (size_t length = 0; length <= kMaxKeyBytes; ++length) {
    std::string key;
    for (size_t i = 0; i < length; ++i) key.push_back(static_cast<char>(prng.Next()));
    const uint64_t salt_seed = prng.Next();
    ASSERT_EQ(KeyHash(salt_seed, key), XXH3_64bits_withSeed(key.data(), key.size(), salt_seed)) << length;
    ASSERT_EQ(SaltSeed(key), XXH3_64bits(key.data(), key.size())) << length;
  }
}

TEST(BucketingTest, BucketsPartitionTheHashesEvenlyAndInOrder) {
  EXPECT_EQ(BucketOfHash(0), 0u);
  EXPECT_EQ(BucketOfHash(~uint64_t{0}), kBucketCount - 1);
  for (uint32_t bucket = 1; bucket < kBucketCount; ++bucket) {
    ASSERT_EQ(BucketOfHash(LowestHashOf(bucket) - 1), bucket - 1);
    ASSERT_EQ(BucketOfHash(LowestHashOf(bucket)), bucket);
  }
}

// Pearson's statistic against the uniform distribution, in standard deviations of its chi-square
// distribution.
double ChiSquareDeviation(const std::vector<int>& counts, double total, double degrees_of_freedom) {
  const double expected = total / static_cast<double>(counts.size());
  double statistic = 0;
  for (const int count : counts) statistic += (count - expected) * (count - expected) / expected;
  return (statistic - degrees_of_freedom) / std::sqrt(2 * degrees_of_freedom);
}

// The keys are fixed, so these can't fail by chance.
TEST(BucketingTest, SequentialKeysSpreadEvenly) {
  for (const char* pattern : {"%d", "order-%08d", "tenant/%d/order"}) {
    std::vector<int> counts(1000);
    constexpr int kKeys = 200'000;
    const uint64_t seed = SaltSeed(pattern);
    for (int i = 0; i < kKeys; ++i) {
      char key[64];
      std::snprintf(key, sizeof(key), pattern, i);
      ++counts[BucketOfHash(KeyHash(seed, key)) / 100];
    }
    EXPECT_LT(std::abs(ChiSquareDeviation(counts, kKeys, 999)), 4) << pattern;
  }
}

TEST(BucketingTest, ComparisonSampleIsIndependentOfTheBucket) {
  constexpr int kCells = 20, kKeys = 200'000;
  std::vector<int> joint(kCells * kCells);
  const uint64_t seed = SaltSeed("independence");
  for (int i = 0; i < kKeys; ++i) {
    const uint64_t hash = KeyHash(seed, absl::StrCat("order-", i));
    const uint32_t row = BucketOfHash(hash) / (kBucketCount / kCells);
    const uint32_t column = ComparisonBucketOfHash(hash) / (kBucketCount / kCells);
    ++joint[row * kCells + column];
  }
  EXPECT_LT(std::abs(ChiSquareDeviation(joint, kKeys, kCells * kCells - 1)), 4);
}

TEST(BucketingTest, SaltsShuffleIndependently) {
  int both = 0;
  for (int i = 0; i < 100'000; ++i) {
    const std::string key = absl::StrCat("order-", i);
    if (Bucket("a", key) < 10'000 && Bucket("b", key) < 10'000) ++both;
  }
  EXPECT_NEAR(both, 1000, 160);  // 5 standard deviations
}

}  // namespace
}  // namespace lockstep::domain
