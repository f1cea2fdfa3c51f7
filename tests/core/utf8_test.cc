#include "core/base/utf8.h"

#include <gtest/gtest.h>

#include "core/base/prng.h"

namespace lockstep {
namespace {

constexpr char kReplacement[] = "\xef\xbf\xbd";

TEST(Utf8Test, SequenceLengths) {
  const struct {
    absl::string_view text;
    size_t length;
  } cases[] = {
      {"a", 1},
      {absl::string_view("\0", 1), 1},
      {"\x7f", 1},
      {"\xc2\x80", 2},
      {"\xdf\xbf", 2},
      {"\xe0\xa0\x80", 3},
      {"\xed\x9f\xbf", 3},
      {"\xef\xbf\xbf", 3},
      {"\xf0\x90\x80\x80", 4},
      {"\xf4\x8f\xbf\xbf", 4},
      {"\x80", 0},              // continuation alone
      {"\xc0\x80", 0},          // overlong
      {"\xc1\xbf", 0},          // overlong
      {"\xe0\x9f\xbf", 0},      // overlong
      {"\xf0\x8f\xbf\xbf", 0},  // overlong
      {"\xed\xa0\x80", 0},      // surrogate
      {"\xf4\x90\x80\x80", 0},  // above U+10FFFF
      {"\xf5\x80\x80\x80", 0},
      {"\xff", 0},
      {"\xc3", 0},  // cut short
      {"\xe2\x82", 0},
      {"\xf0\x9f\x98", 0},
      {"\xc3x", 0},
  };
  for (const auto& test : cases)
    EXPECT_EQ(Utf8SequenceLength(test.text), test.length) << ToValidUtf8(test.text);
}

TEST(Utf8Test, RepairKeepsWhatIsValid) {
  EXPECT_EQ(ToValidUtf8(""), "");
  EXPECT_EQ(ToValidUtf8("a\xc3\xa4"), "a\xc3\xa4");
  EXPECT_EQ(ToValidUtf8("a\xff"
                        "b"),
            std::string("a") + kReplacement + "b");
  EXPECT_EQ(ToValidUtf8("\xe2\x82"), std::string(kReplacement) + kReplacement);
}

TEST(Utf8Test, RandomBytesBecomeValidAndStay) {
  const uint64_t seed = 4;
  SCOPED_TRACE(testing::Message() << "seed " << seed);
  Prng prng(seed);
  for (int i = 0; i < 20000; ++i) {
    std::string bytes(prng.Below(12), '\0');
    for (char& c : bytes) c = static_cast<char>(prng.Next() | (prng.Below(2) << 7));
    const std::string valid = ToValidUtf8(bytes);
    EXPECT_EQ(ToValidUtf8(valid), valid);
    EXPECT_EQ(Utf8Length(valid), Utf8Length(bytes));
    for (size_t limit = 0; limit <= valid.size(); ++limit) {
      const absl::string_view prefix = Utf8Prefix(valid, limit);
      EXPECT_LE(prefix.size(), limit);
      EXPECT_GT(prefix.size() + 4, limit) << "no shorter than it must be";
      EXPECT_EQ(ToValidUtf8(prefix), prefix);
    }
    EXPECT_EQ(Utf8Prefix(bytes, bytes.size()), bytes);
  }
}

}  // namespace
}  // namespace lockstep
