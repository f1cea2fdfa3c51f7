#include "tests/engine/record_codec_under_test.h"
#include "tests/engine/table_codec.h"

namespace lockstep::engine {

std::unique_ptr<store::RecordCodec> NewCodecUnderTest() { return std::make_unique<TableCodec>(); }

}  // namespace lockstep::engine
