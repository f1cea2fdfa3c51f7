#include "server/store/proto_record_codec.h"
#include "tests/engine/record_codec_under_test.h"

namespace lockstep::engine {

std::unique_ptr<store::RecordCodec> NewCodecUnderTest() {
  return std::make_unique<store::ProtoRecordCodec>();
}

}  // namespace lockstep::engine
