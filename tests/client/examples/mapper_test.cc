#include "client/examples/cities/mapper.h"

#include <gtest/gtest.h>

#include "tests/client/examples/cities_testing.h"

namespace lockstep::examples {
namespace {

TEST(MapperTest, AdminCodes) {
  struct Case {
    const char* code;
    const char* v1;  // v2 keeps the code
  };
  for (const Case& c :
       {Case{"06", "6"}, Case{"007", "7"}, Case{"00", "0"}, Case{"0", "0"}, Case{"10", "10"}, Case{"6", "6"},
        Case{"", ""}, Case{"0A", "0A"}, Case{"A0", "A0"}, Case{"-01", "-01"}, Case{" 01", " 01"},
        Case{"01.5", "01.5"}, Case{"100470000", "100470000"}, Case{"00000000000000000000000001", "1"},
        Case{"99999999999999999999999", "99999999999999999999999"}}) {
    const City city = MakeCity(1, "Ordino", "1.5", "2", "AD", c.code, c.code);
    CanonicalCity want = MakeCanonical(city);
    const auto v2 = MapCity(MapperVersion::kCorrect, city);
    ASSERT_TRUE(v2.ok());
    EXPECT_EQ(*v2, want) << c.code;

    want.admin1 = want.admin2 = c.v1;
    const auto v1 = MapCity(MapperVersion::kLosesLeadingZeros, city);
    ASSERT_TRUE(v1.ok());
    EXPECT_EQ(*v1, want) << c.code;
  }
}

TEST(MapperTest, BothRefuseWhatHasNoCanonicalForm) {
  for (const MapperVersion version : {MapperVersion::kLosesLeadingZeros, MapperVersion::kCorrect}) {
    EXPECT_TRUE(absl::IsInvalidArgument(MapCity(version, MakeCity(1, "A", "north")).status()));
  }
}

TEST(MapperTest, Names) {
  for (const MapperVersion version : {MapperVersion::kLosesLeadingZeros, MapperVersion::kCorrect}) {
    EXPECT_EQ(ParseMapperVersion(MapperVersionName(version)), version);
  }
  for (const char* text : {"", "v3", "1", "V1", "v1 "}) EXPECT_EQ(ParseMapperVersion(text), std::nullopt);
}

}  // namespace
}  // namespace lockstep::examples
