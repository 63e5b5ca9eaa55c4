# A PJSIP phone that does what its input says and writes what happens, a line each.
#
# Arguments: NAME ADDRESS udp|tcp PROXY TONE_HZ DIRECTORY. It is sip:NAME@lab.test, plays a tone into each call, records what
# it hears in DIRECTORY/NAME-heard.wav, and answers each call itself. Its input: register, unregister, call NAME, hold,
# resume, count, hang up. PJSIP is told not to work around any NAT: what works is the gateway's doing.
import math
import os
import select
import struct
import sys
import traceback
import wave

import pjsua2 as pj

NAME, ADDRESS, TRANSPORT, PROXY, TONE, DIRECTORY = sys.argv[1:]
RATE = 8_000


def say(*words):
    print(*words, flush=True)


def write_tone(file):
    """One second of the tone, which is whole periods of it: the player repeats it without a break."""
    with wave.open(file, "wb") as out:
        out.setparams((1, 2, RATE, 0, "NONE", ""))
        sample = lambda n: int(8_000 * math.sin(2 * math.pi * int(TONE) * n / RATE))
        out.writeframes(b"".join(struct.pack("<h", sample(n)) for n in range(RATE)))


class Call(pj.Call):
    # Media are connected from the main loop: the library holds its locks in its own calls.
    has_new_media = False

    def onCallState(self, prm):
        info = self.getInfo()
        if info.state == pj.PJSIP_INV_STATE_CONFIRMED:
            say("confirmed")
        elif info.state == pj.PJSIP_INV_STATE_DISCONNECTED:
            say("ended", info.lastStatusCode)
            phone.ended.append(self)
            phone.call = None

    def onCallMediaState(self, prm):
        self.has_new_media = True

    def connect_media(self):
        self.has_new_media = False
        info = self.getInfo()
        media = info.media[0]
        if media.status == pj.PJSUA_CALL_MEDIA_ACTIVE:
            audio = self.getAudioMedia(0)
            phone.player.startTransmit(audio)
            audio.startTransmit(phone.recorder)
            say("speaking")
        else:
            say("silent", media.status)

    def count(self):
        stats = self.getStreamStat(0).rtcp
        say("sent", stats.txStat.pkt, "received", stats.rxStat.pkt, "lost", stats.rxStat.loss)


class Phone(pj.Account):
    call = None
    player = None
    recorder = None
    ended = []

    def onRegState(self, prm):
        say("registered" if prm.expiration > 0 else "gone", prm.code, prm.expiration)

    def onIncomingCall(self, prm):
        self.call = Call(self, prm.callId)
        say("called")
        self.call.answer(parameters(pj.PJSIP_SC_OK))

    def obey(self, words):
        match words:
            case ["register"]:
                self.setRegistration(True)
            case ["unregister"]:
                self.setRegistration(False)
            case ["call", name]:
                self.call = Call(self)
                self.call.makeCall(f"sip:{name}@lab.test", parameters())
            case ["hold"]:
                self.call.setHold(parameters())
            case ["resume"]:
                resume = parameters()
                resume.opt.flag = pj.PJSUA_CALL_UNHOLD
                self.call.reinvite(resume)
            case ["count"]:
                self.call.count()
            case ["hang", "up"]:
                self.call.hangup(parameters())
            case _:
                say("what is", *words)


def parameters(code=0):
    prm = pj.CallOpParam(True)
    prm.opt.videoCount = 0
    if code:
        prm.statusCode = code
    return prm


def start_library():
    endpoint = pj.Endpoint()
    endpoint.libCreate()
    config = pj.EpConfig()
    config.uaConfig.threadCnt = 0
    config.uaConfig.mainThreadOnly = True
    config.logConfig.filename = os.path.join(DIRECTORY, f"{NAME}.log")
    config.logConfig.level = 5
    config.logConfig.consoleLevel = 0
    config.medConfig.noVad = True
    config.medConfig.ecTailLen = 0
    config.medConfig.clockRate = RATE
    endpoint.libInit(config)
    transport = pj.TransportConfig()
    transport.port = 5060
    transport.boundAddress = ADDRESS
    kind = {"udp": pj.PJSIP_TRANSPORT_UDP, "tcp": pj.PJSIP_TRANSPORT_TCP}[TRANSPORT]
    endpoint.transportCreate(kind, transport)
    endpoint.audDevManager().setNullDev()
    endpoint.libStart()
    for codec in endpoint.codecEnum2():
        endpoint.codecSetPriority(codec.codecId, 255 if codec.codecId.startswith("PCMU/8000") else 0)
    return endpoint


def start_account():
    phone = Phone()
    config = pj.AccountConfig()
    config.idUri = f"sip:{NAME}@lab.test"
    config.regConfig.registrarUri = f"sip:lab.test;transport={TRANSPORT}"
    config.regConfig.registerOnAdd = False
    config.regConfig.timeoutSec = 300
    config.sipConfig.proxies.append(f"sip:{PROXY};transport={TRANSPORT};lr")
    nat = config.natConfig
    nat.contactRewriteUse = nat.viaRewriteUse = nat.sdpNatRewriteUse = nat.sipOutboundUse = 0
    nat.udpKaIntervalSec = 0
    media = config.mediaConfig
    media.srtpUse = pj.PJMEDIA_SRTP_DISABLED
    media.transportConfig.port = 4_000
    media.transportConfig.boundAddress = ADDRESS
    phone.create(config)
    return phone


def run():
    buffer = b""
    while True:
        endpoint.libHandleEvents(10)
        if phone.call and phone.call.has_new_media:
            phone.call.connect_media()
        if select.select([0], [], [], 0)[0]:
            arrived = os.read(0, 4_096)
            if not arrived:
                return
            *lines, buffer = (buffer + arrived).split(b"\n")
            for line in lines:
                try:
                    phone.obey(line.decode().split())
                except pj.Error as error:
                    say("failed", error.info())


tone = os.path.join(DIRECTORY, f"{NAME}-tone.wav")
write_tone(tone)
endpoint = start_library()
phone = start_account()
phone.player = pj.AudioMediaPlayer()
phone.player.createPlayer(tone)
phone.recorder = pj.AudioMediaRecorder()
phone.recorder.createRecorder(os.path.join(DIRECTORY, f"{NAME}-heard.wav"))
say("ready")
try:
    run()
    phone.recorder = None
except Exception:
    say("died", traceback.format_exc())
# The library's own ending waits for the other side of every dialogue; nothing of it is wanted.
os._exit(0)
