"""Phrases of sites in other languages than English, by reason.

YouTube answers in the language of the account, or of `extractor_args: {youtube: {lang: [...]}}`; sites of one country
answer in its language. The table is read like `vidaudio.media.fetch.reasons.PHRASES`: from top to bottom, and the first
match decides. The phrases of a reason come in this order: de, nl, sv, fr, es, pt, it, pl, tr, id, vi, ru, uk, ar, hi,
ja, ko, zh. The answers to a blocked account also include el, fi, da, no, cs, hu, ro, he, th.
"""

from __future__ import annotations

from vidaudio.media.outcomes import Reason

# One regular expression per line.
_LISTED: tuple[tuple[Reason, str], ...] = (
    (
        Reason.BOT_CHECK,
        r"""
        (kein|geen|inte en) (bot|robot)\b
        dass du kein bot
        n'êtes pas un (robot|bot)
        no eres un (bot|robot)
        não é um (bot|robô)
        non sei un (bot|robot)
        nie jesteś (ro)?botem
        bot olmadığını
        bukan (bot|robot)
        không phải là (bot|rô-?bốt|người máy)
        не (ро)?бот\b
        لست (برنامج )?(روبوت|بوت)
        बॉट नहीं
        (ボット|ロボット)ではない
        봇이 아[님니]
        (不是|并非|並非)(机器人|機器人)
        запросы, поступившие с вашего IP
        похожи на автоматические
        """,
    ),
    (
        Reason.RATE_LIMITED,
        r"""
        später (noch einmal|erneut)
        probeer het later
        försök igen senare
        réessayez plus tard
        (inténtalo|vuelve a intentarlo).{0,20} más tarde
        tente novamente mais tarde
        riprova più tardi
        spróbuj (ponownie )?później
        daha sonra tekrar
        coba lagi nanti
        thử lại sau
        повторите попытку позже
        спробуйте (ще раз )?пізніше
        حاول مرة أخرى لاحق
        बाद में (फिर )?कोशिश
        しばらくしてから
        나중에 다시 시도
        稍后再试
        稍後再試
        """,
    ),
    (
        Reason.GEO_BLOCKED,
        r"""
        in (deinem|ihrem|diesem) land
        in (je|jouw|uw) land
        i ditt land
        dans votre (pays|région)
        zone géographique
        en (tu|su) (país|región|ubicación)
        n?o seu país
        na sua região
        nel tuo paese
        w (twoim|danym) (kraju|regionie)
        ülkenizde
        bölgenizde
        di negara (anda|kamu)
        ở quốc gia của bạn
        в (вашей|твоей|этой) стране
        в вашем регионе
        у вашій країні
        في بلدك
        आपके देश
        お住まいの(国|地域)
        (국가|지역)에서는?
        (所在|你|您)的?(国家|國家|地区|地區)
        """,
    ),
    (
        Reason.AGE_RESTRICTED,
        r"""
        alter zu bestätigen
        altersbeschränk
        leeftijd te bevestigen
        bekräfta din ålder
        confirmer votre âge
        confirmar (tu|su) edad
        confirmar (a )?sua idade
        confermare la tua età
        potwierdzić (swój )?wiek
        yaşınızı
        (umur|usia) (anda|kamu)
        xác nhận (độ )?tuổi
        подтвердить (свой )?возраст
        підтвердити (свій )?вік
        تأكيد عمرك
        التأكد من عمرك
        उम्र की पुष्टि
        年齢(を確認|制限)
        (연령|나이)(을|를)? ?(확인|제한)
        (确认|確認|验证|驗證).{0,4}(年龄|年齡)
        """,
    ),
    (
        Reason.MEMBERS_ONLY,
        r"""
        kanalmitglied
        exclusi(va|ve|vo) (para|pour|per) (los )?(miembros|membres|membros)
        membros do canal
        abonn(és|enten)
        abbonati
        dla (użytkowników premium|wspierających)
        только для (спонсоров|подписчиков)
        メンバー限定
        チャンネル メンバー
        회원 전용
        大会员
        大會員
        会员专享
        會員專屬
        """,
    ),
    (
        Reason.PRIVATE,
        r"""
        privates video
        video ist privat
        privévideo
        video is privé
        privat video
        vidéo (est )?privée
        v[ií]deo (es )?privado
        v[ií]deo (é )?(privado|particular)
        video (è )?privato
        film (jest )?prywatny
        özel video
        video (bersifat )?pribadi
        video riêng tư
        (частное|закрытое|приватное) видео
        приватне відео
        видео с ограниченным доступом
        فيديو خاص
        निजी वीडियो
        वीडियो निजी
        非公開(の)?動画
        動画は非公開
        비공개 동영상
        私享视频
        私人影片
        设为私密
        設為私人
        """,
    ),
    (
        Reason.COPYRIGHT,
        r"""
        urheberrecht
        auteursrecht
        upphovsrätt
        droits? d'auteur
        derechos de autor
        direitos autorais
        diritti d'autore
        praw(a|ami)? autorski
        telif hakk
        hak cipta
        bản quyền
        авторск(их|ого|ие) прав
        авторськ(их|ого|і) прав
        حقوق (الطبع|النشر)
        कॉपीराइट
        著作権
        저작권
        版权
        版權
        """,
    ),
    # YouTube's answer to a blocked account or address, for every video.
    (
        Reason.BOT_CHECK,
        r"""
        (dieser inhalt|diese inhalte) (ist|sind) nicht verfügbar
        deze content is niet beschikbaar
        innehållet är inte tillgängligt
        ce contenu n'est pas disponible
        este contenido no está disponible
        este conteúdo não está disponível
        quest[oi] contenut[oi] non (è|sono) disponibil
        (te treści są|ta treść jest) niedostępn
        bu içerik (kullanılamıyor|mevcut değil)
        konten ini tidak tersedia
        nội dung này không (có sẵn|khả dụng)
        этот контент недоступен
        (это содержание|эти материалы) недоступн
        цей (контент|вміст) недоступний
        هذا المحتوى غير (متاح|متوفر)
        यह (कॉन्टेंट|सामग्री) उपलब्ध नहीं
        このコンテンツは(利用|視聴|再生|ご利用いただけ|ご覧いただけ)
        이 콘텐츠(는|를) (사용|이용|시청)
        此内容(不可用|无法)
        (此|這項)內容(無法|不可)
        αυτό το περιεχόμενο δεν είναι διαθέσιμο
        tämä sisältö ei ole (käytettävissä|saatavilla)
        dette indhold er ikke tilgængeligt
        dette innholdet er ikke tilgjengelig
        tento obsah není (k dispozici|dostupný)
        ez a tartalom nem (áll rendelkezésre|érhető el)
        acest conținut nu este disponibil
        תוכן זה (אינו|לא) זמין
        เนื้อหานี้ไม่(พร้อม|สามารถ)
        """,
    ),
    # About the embedded player only: other clients can still get the video.
    (
        Reason.UNSUPPORTED,
        r"""
        wiedergabe (dieses videos )?auf anderen websites
        (afspelen|weergave) .{0,30}andere (web)?sites
        uppspelning .{0,30}andra webbplatser
        lecture .{0,30}(sur d'autres sites|autres sites web)
        reproducción .{0,30}otros sitios
        reprodução .{0,30}outros (web)?sites
        riproduzione .{0,30}altri siti
        odtwarzani[ea] .{0,40}innych (stron|witryn)
        diğer (web )?siteleri?nde
        (pemutaran|memutar) .{0,30}situs (web )?lain
        (phát|xem) .{0,30}(trang )?web khác
        воспроизведение .{0,30}других сайтах
        відтворення .{0,30}інших (сайтах|веб-сайтах)
        (على|في) (ال)?مواقع (ال)?(ويب )?(ال)?أخرى
        अन्य वेबसाइट
        他の(ウェブ)?サイト(で|上で)
        다른 (웹)?사이트에서
        (其他|其它)(网站|網站)
        """,
    ),
    (
        Reason.REMOVED,
        r"""
        entfernt
        gelöscht
        verwijderd
        borttagen
        tagits bort
        supprimée?
        retirée
        eliminado
        borrado
        removido
        excluído
        rimosso
        eliminato
        usunięt
        kaldırıldı
        silindi
        (telah )?dihapus
        đã bị xóa
        удален
        удалён
        видалено
        हटा दिया
        تمت إزالة
        削除
        삭제
        已(被)?(删除|刪除|移除|下线|下架)
        video (ist )?nicht (mehr )?verfügbar
        video (is )?niet (meer )?beschikbaar
        videon är inte tillgänglig
        vidéo (n'est (pas|plus) |non |in)disponible
        v[ií]deo (ya )?no (está )?disponible
        vídeo (não está |in)disponíve
        vídeo indispon
        video non (è )?(più )?disponibile
        film (jest )?niedostępny
        video (artık )?(kullanılamıyor|mevcut değil)
        video tidak (lagi )?tersedia
        video này không còn
        video không (có sẵn|xem được|khả dụng)
        видео (больше )?недоступно
        відео (більше )?недоступне
        الفيديو (لم يعد )?(غير )?مت(اح|وفر)
        वीडियो (अब )?उपलब्ध नहीं
        (この)?動画(は|を)(再生できません|ご覧いただけ|利用できません)
        동영상을 (더 이상 )?(재생|볼|시청)할 수 없
        (视频|影片|视頻)(不可用|无法播放|無法播放|已失效)
        """,
    ),
)
TRANSLATED_PHRASES: tuple[tuple[Reason, str], ...] = tuple(
    (reason, "|".join(line.strip() for line in lines.strip().splitlines())) for reason, lines in _LISTED
)
