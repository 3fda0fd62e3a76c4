import Bytes
import HTTPCodec

struct DecodedBody: Equatable {
    var content = ""
    var trailers: [String] = []
    var consumed = 0
    var isComplete = false
}

/// Decodes a body that arrives cut at `cuts`; what a step leaves over is fed again with what follows, as a connection does.
func decodeBody(
    _ wire: [UInt8], _ framing: BodyFraming, cuts: [Int] = [], limits: BodyLimits = .standard
) throws -> DecodedBody {
    var decoder = try BodyDecoder(framing, limits: limits)
    var body = DecodedBody()
    var content: [UInt8] = []
    for end in cuts + [wire.count] {
        feeding: while true {
            let memory = Array(wire[body.consumed..<end])
            let piece = try memory.withUnsafeBytes { bytes in
                let piece = try decoder.next(bytes, limits: limits)
                switch piece.event {
                case .content: content += bytes[piece.payload]
                case .trailer: body.trailers.append(text(bytes[piece.payload]))
                case .starved, .complete: break
                }
                return piece
            }
            body.consumed += piece.consumed
            switch piece.event {
            case .content, .trailer: continue
            case .starved: break feeding
            case .complete: body.isComplete = true; break feeding
            }
        }
        if body.isComplete { break }
    }
    body.content = text(content)
    return body
}

func decodeChunked(_ wire: String, limits: BodyLimits = .standard) throws -> DecodedBody {
    try decodeBody(Array(wire.utf8), .chunked, limits: limits)
}
