// Golden files: expected text under tests/golden/cli. LOCKSTEP_UPDATE_GOLDEN=1 writes what the code says now,
// to be reviewed as a diff.
#pragma once

#include <string>

namespace lockstep::cli {

// The text of a file of the source tree; fails the test if it can't be read.
std::string ReadSourceFile(const std::string& path);

// Fails unless `text` is what tests/golden/cli/`name` holds.
void ExpectGolden(const std::string& name, const std::string& text);

}  // namespace lockstep::cli
