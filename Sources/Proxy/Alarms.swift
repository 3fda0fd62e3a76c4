import EventLoop
import HTTPCodec
import Upstream

// Times that a request's route and policy set, beside those of its connections: when the whole of it is given up, when an attempt is, and when
// a pause ends. An exchange has one alarm, for whichever comes first; most have none.
extension Worker {
    /// Sets the alarm to the earliest time that the exchange waits for.
    mutating func armAlarm(_ number: UInt32, _ exchange: ExchangePlace) {
        // 0 is never; one less than that is the farthest of all.
        let earliest = min(exchange.pointee.giveUpAt &- 1, exchange.pointee.attemptEndsAt &- 1, exchange.pointee.resumeAt &- 1) &+ 1
        if earliest != 0 {
            alarms.set(number, at: earliest)
            exchange.pointee.hasAlarm = true
        } else if exchange.pointee.hasAlarm {
            alarms.clear(number)
        }
    }

    /// How long the caller waits, if it says so: the request is given up then, and the next one on its way is told what is left.
    mutating func notePatience(_ number: UInt32, _ exchange: ExchangePlace, _ bytes: UnsafeRawBufferPointer) {
        if !exchange.pointee.isGRPC, let value = head.value(.requestTimeout)?.of(bytes), let milliseconds = RequestTimeout.milliseconds(value) {
            let until = now + milliseconds * 1_000_000
            if milliseconds < WorkerSizes.callNanosecondsMax / 1_000_000, exchange.pointee.giveUpAt == 0 || until < exchange.pointee.giveUpAt {
                exchange.pointee.giveUpAt = until
            }
        }
        // A call on a stream has a deadline of its own for this.
        if exchange.pointee.giveUpAt != 0, !exchange.pointee.isGRPC || exchange.pointee.downstreamStream == 0 { armAlarm(number, exchange) }
    }

    /// An attempt goes out: it has so long, to the end of its reply.
    mutating func beginAttempt(_ number: UInt32, _ exchange: ExchangePlace) {
        guard exchange.pointee.attemptMilliseconds > 0 || exchange.pointee.attemptEndsAt != 0 else { return }
        exchange.pointee.attemptEndsAt = exchange.pointee.attemptMilliseconds == 0 ? 0 : after(milliseconds: Int(exchange.pointee.attemptMilliseconds))
        armAlarm(number, exchange)
    }

    /// Nothing is done for the exchange until then. What it is about is held.
    mutating func pause(_ number: UInt32, _ exchange: ExchangePlace, milliseconds: Int) {
        exchange.pointee.attemptEndsAt = 0
        exchange.pointee.resumeAt = after(milliseconds: milliseconds)
        armAlarm(number, exchange)
    }

    /// The place may have a new tenant since its number was queued.
    mutating func alarmRang(_ number: UInt32) {
        let exchange = exchanges.at(number)
        // Behind an upgrade there is no request any more.
        let isOpaque = exchange.pointee.isTunnel || connections.at(exchange.pointee.downstream).pointee.stage == .relaying
        if isOpaque { return }
        if exchange.pointee.giveUpAt != 0, now >= exchange.pointee.giveUpAt { return answer(number, .deadlinePassed) }
        if exchange.pointee.attemptEndsAt != 0, now >= exchange.pointee.attemptEndsAt {
            exchange.pointee.attemptEndsAt = 0
            return exchange.pointee.replyHasBegun ? answer(number, .replyTimeout) : fail(number, .replyTimeout)
        }
        if exchange.pointee.resumeAt != 0, now >= exchange.pointee.resumeAt {
            exchange.pointee.resumeAt = 0
            armAlarm(number, exchange)
            return resume(number)
        }
        armAlarm(number, exchange)
    }
}
