/* The table of codecs. Owns nothing. */
#include "frame/codec.h"

#include <stddef.h>

#include "frame/protobuf.h"
#include "frame/wkproto.h"

const struct codec_ops *codec_ops_of(enum codec_kind kind)
{
    switch (kind) {
    case CODEC_JSON:
    case CODEC_BYTES: break;
    case CODEC_PROTOBUF: return &protobuf_codec_ops;
    case CODEC_WKPROTO: return &wkproto_codec_ops;
    }
    return NULL;
}

bool codec_is_known(enum codec_kind kind)
{
    return kind == CODEC_JSON || kind == CODEC_BYTES || codec_ops_of(kind) != NULL;
}
