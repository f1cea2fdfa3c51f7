#include "tests/cli/golden.h"

#include <cstdlib>
#include <fstream>
#include <iterator>

#include "gtest/gtest.h"

namespace lockstep::cli {

std::string ReadSourceFile(const std::string& path) {
  std::ifstream in(std::string(LOCKSTEP_SOURCE_DIR) + "/" + path, std::ios::binary);
  EXPECT_TRUE(in.is_open()) << path;
  return {std::istreambuf_iterator<char>(in), {}};
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = "tests/golden/cli/" + name;
  if (std::getenv("LOCKSTEP_UPDATE_GOLDEN") != nullptr) {
    std::ofstream out(std::string(LOCKSTEP_SOURCE_DIR) + "/" + path, std::ios::binary);
    out << text;
    ASSERT_TRUE(out.good()) << path;
    return;
  }
  EXPECT_EQ(text, ReadSourceFile(path)) << "LOCKSTEP_UPDATE_GOLDEN=1 writes " << path << " anew";
}

}  // namespace lockstep::cli
